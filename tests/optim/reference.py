"""Gradient descent written a second time: plain formulas, a Python loop, NumPy float64."""

import numpy as np

LOSSES = {
    "logistic": (lambda z: np.log1p(np.exp(-z)), lambda z: 1 / (1 + np.exp(z))),
    "exponential": (lambda z: np.exp(-z), lambda z: np.exp(-z)),
    "flat_exponential": (
        lambda z: np.where(z >= 0, np.exp(-np.abs(z)), 1 - z),
        lambda z: np.exp(-np.maximum(z, 0)),
    ),
    "polynomial": (  # degree 1
        lambda z: np.where(z >= 0, 1 / (1 + np.abs(z)), 1 - z),
        lambda z: (1 + np.maximum(z, 0)) ** -2.0,
    ),
    "semicircle": (
        lambda z: (-z + np.sqrt(z**2 + 4)) / 2,
        lambda z: (-z + np.sqrt(z**2 + 4)) / 2 / np.sqrt(z**2 + 4),
    ),
}

INVERSE_SLOPES = {
    "logistic": lambda v: 1 / (1 - np.exp(-v)),
    "exponential": lambda v: 1 / v,
    "flat_exponential": lambda v: np.maximum(1 / v, 1),
    "polynomial": lambda v: np.where(v <= 1, v**-2.0, 1.0),
    "semicircle": lambda v: 1 / v**2 + 1,
}


def update_weights(z, a, loss, rule, signed=None):
    """p of the step w + eta sum_i p_i y_i x_i; signed = y_i x_i is needed for "l2"."""
    value, slope = LOSSES[loss]
    slopes = a * slope(z)
    if rule == "risk":
        return slopes * INVERSE_SLOPES[loss](np.sum(a * value(z)))
    if rule == "potential":
        return slopes / slopes.sum()
    if rule == "l2":
        return slopes / np.linalg.norm(slopes @ signed)
    return slopes


def run_gd(X, y, eta, num_steps, loss, rule, sample_weight=None):
    """The trajectory: w [T+1, d], ln L [T+1], ln L of the averages [T+1], mass [T]."""
    signed = y[:, None] * X
    a = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    a = a / a.sum()

    def log_risk(w):
        return np.log(np.sum(a * LOSSES[loss][0](signed @ w)))

    iterates, mass = [np.zeros(X.shape[1])], []
    for _ in range(num_steps):
        p = update_weights(signed @ iterates[-1], a, loss, rule, signed)
        mass.append(p.sum())
        iterates.append(iterates[-1] + eta * p @ signed)
    iterates = np.array(iterates)
    averages = np.array([iterates[: max(t, 1)].mean(axis=0) for t in range(num_steps + 1)])
    return {
        "w": iterates,
        "averages": averages,
        "log_risk": np.array([log_risk(w) for w in iterates]),
        "log_risk_avg": np.array([log_risk(w) for w in averages]),
        "mass": np.array(mass),
    }
