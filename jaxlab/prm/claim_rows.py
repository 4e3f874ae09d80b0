"""The sentences of the paper that are measured, and a row of the table for each."""

import numpy as np

from jaxlab.runs import Claim

TOY = "arithmetic chains and a network of 94k parameters, not GSM8K and 7B"

# Each row's sentence, and the number that the paper gives.
ROWS = {
    "A1": ("Problems are decomposed automatically with a controllable granularity switch", ""),
    "A2": ("Sequential reinforcement learning iteratively improves the subquestion solver", ""),
    "A3": ("Process feedback beats outcome feedback", "59.3 against 56.1 (PRM-RL)"),
    "A3'": ("Automatic labels beat human ones (PRM-RL)", "59.3 against 56.1"),
    "A4": (
        "Context-guided decoding guides the solver towards the whole problem",
        "best decoder (Table 3)",
    ),
    "A4-tampering": ("Context-guided decoding avoids reward tampering", ""),
    "A5": ("Accuracy depends on granularity, and is best in between", "best at 0.8 (Fig. 3)"),
    "A6": ("The longer the chain, the larger the gain over chain of thought with votes", ""),
    "A7": ("AutoPRM integrates with orthogonal pipelines", "with MetaMath's problems 70.8"),
    "A8": ("Self-supervised: reinforcement learning reads no gold step", ""),
    "A9": ("Commonsense too (StrategyQA 67.4 against 66.0)", "67.4"),
    "A10": ("Training decomposition and answers jointly helps", ""),
    "P1": ("GSM8K 59.3, MATH 13.2 with a network of 7B parameters", "59.3, 13.2"),
}


def row(name: str, measured: str, verdict: str, *, detail: str) -> Claim:
    """The row of a sentence."""
    return Claim(name, *ROWS[name], measured, verdict, detail=detail)


def known_mean(values: np.ndarray) -> float:
    """Over the numbers that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
