"""How much of a text a model reproduces, and whether what it writes has gone in circles.

Host functions. Predictions are argmax tokens under teacher forcing, already aligned with labels.
"""

from collections.abc import Sequence

import numpy as np

from jaxlab.checks import check_at_least, check_equal_shapes
from jaxlab.unlearn.log_probs import IGNORE_INDEX


def exact_memorization(
    pred: np.ndarray, labels: np.ndarray, *, ignore_index: int = IGNORE_INDEX
) -> np.ndarray:
    """Share of the scored tokens of each row that are predicted, `[B]`; 0 where none is scored.

    Args:
      pred, labels: `[B, T]`.
      ignore_index: label of what is not scored.

    Raises:
      ValueError: unequal shapes.
    """
    scored, right = _compare(pred, labels, ignore_index)
    return right.sum(1) / np.maximum(scored.sum(1), 1)


def extraction_strength(
    pred: np.ndarray, labels: np.ndarray, *, ignore_index: int = IGNORE_INDEX
) -> np.ndarray:
    """1 - k / n of each row `[B]`, where from the k-th of n scored tokens on all are predicted.

    Arguments and errors as in `exact_memorization`.

    Source: Carlini et al., 2021; Wang et al., arXiv 2502.19301.
    """
    scored, right = _compare(pred, labels, ignore_index)
    from_end = (right | ~scored)[:, ::-1]
    unbroken = np.logical_and.accumulate(from_end, axis=1) & scored[:, ::-1]
    return unbroken.sum(1) / np.maximum(scored.sum(1), 1)


def repetition_rate(tokens: Sequence[int], *, n: int = 4) -> float:
    """1 - distinct / all n-grams of one sequence of ids; 0 for a sequence shorter than n.

    Raises:
      ValueError: n < 1.
    """
    check_at_least("n", n, 1)
    tokens = [int(token) for token in tokens]
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _compare(
    pred: np.ndarray, labels: np.ndarray, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """(scored, scored and predicted), `[B, T]` bool."""
    check_equal_shapes(pred=pred, labels=labels)
    pred, labels = np.asarray(pred), np.asarray(labels)
    scored = labels != ignore_index
    return scored, scored & (pred == labels)
