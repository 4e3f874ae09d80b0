"""What arXiv 2504.04105 says, one sentence per row of the claims table."""

STATEMENTS = {
    "LS1": "After at most 1/gamma^2 burn-in steps the risk is at most exp(-Theta(eta)) "
    "(exponential loss).",
    "LS2": "The same for the logistic loss with the stepsize of the mean risk, as in the abstract.",
    "LS2b": 'The same for the logistic loss with the rule "potential".',
    "LS3": "The risk becomes arbitrarily small right after the burn-in.",
    "LS4": "The evolution of the risk may be non-monotonic.",
    "LS5": "There are data sets on which any batch first-order method needs Omega(1/gamma^2) "
    "steps.",
    "LS6": "There are data sets on which any online method needs Omega(1/gamma^2) steps.",
    "LS7": "Gradient descent with these stepsizes is minimax optimal among batch first-order "
    "methods.",
    "LS8": "The Perceptron needs 1/gamma^2 steps, and gradient descent matches it in the "
    "constants.",
    "LS9": "The results extend to a broad class of losses.",
    "LS10": "The results extend to certain two-layer networks.",
    "LS11": "Large adaptive stepsizes beat small and constant ones.",
    "LS12": "On real data a separator is found within 1/gamma^2 steps.",
}
