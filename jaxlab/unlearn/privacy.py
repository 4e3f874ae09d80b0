"""Membership inference: does a model betray which texts it was trained on?

Scores are low for texts that look trained on. Host functions in float64. Axes: B texts, T tokens.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from jaxlab.checks import check_equal_shapes


def min_k_score(token_logp: ArrayLike, mask: ArrayLike, *, k: float = 0.4) -> np.ndarray:
    """Minus the mean of the lowest share `k` of token log-probabilities of each text, `[B]` nats.

    Args:
      token_logp: `[B, T]` nats.
      mask: `[B, T]` tokens that count.
      k: share of the tokens, in (0, 1]; at least one token is taken.

    Raises:
      ValueError: a text without tokens, `k` outside (0, 1], or unequal shapes.

    Source: Shi et al., "Detecting Pretraining Data from Large Language Models", arXiv 2310.16789.
    """
    check_equal_shapes(token_logp=token_logp, mask=mask)
    if not 0 < k <= 1:
        raise ValueError(f"k must lie in (0, 1], got {k}")
    token_logp, mask = np.asarray(token_logp, np.float64), np.asarray(mask, bool)
    counts = mask.sum(1)
    if (counts == 0).any():
        raise ValueError(f"row {int(np.flatnonzero(counts == 0)[0])} has no scored token")
    taken = np.maximum((k * counts).astype(int), 1)
    ascending = np.sort(np.where(mask, token_logp, np.inf), axis=1)
    lowest = np.arange(mask.shape[1]) < taken[:, None]
    return -np.where(lowest, ascending, 0).sum(1) / taken


def min_kpp_score(
    token_logp: np.ndarray, mean: np.ndarray, var: np.ndarray, mask: np.ndarray, *, k: float = 0.4
) -> np.ndarray:
    """Min-K%++ `[B]`: `min_k_score` of log-probabilities standardised at each position.

    Args:
      token_logp: `[B, T]` nats.
      mean, var: `[B, T]` mean and variance of log p under p itself at that position.
      mask, k: as in `min_k_score`.

    Raises:
      ValueError: as there.

    Source: Zhang et al., "Min-K%++", arXiv 2404.02936.
    """
    check_equal_shapes(token_logp=token_logp, mean=mean, var=var)
    deviation = np.sqrt(np.maximum(np.asarray(var, np.float64), 1e-12))
    return min_k_score((np.asarray(token_logp, np.float64) - mean) / deviation, mask, k=k)


def zlib_score(nll: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """NLL of each text `[B]` over the bytes that zlib needs for it.

    Source: Carlini et al., "Extracting Training Data from Large Language Models", 2021.
    """
    check_equal_shapes(nll=nll, texts=np.zeros(len(texts)))
    sizes = [len(zlib.compress(text.encode("utf-8"))) for text in texts]
    return np.asarray(nll, np.float64) / sizes


def reference_score(nll: np.ndarray, ref_nll: np.ndarray) -> np.ndarray:
    """NLL of each text `[B]` less that under a model that was not trained on it."""
    check_equal_shapes(nll=nll, ref_nll=ref_nll)
    return np.asarray(nll, np.float64) - np.asarray(ref_nll, np.float64)


def privleak_auc(forget_score: np.ndarray, holdout_score: np.ndarray) -> float:
    """P(hold-out scores below forget) + P(equal) / 2: 0 memorised, 1 over-unlearned.

    Args:
      forget_score, holdout_score: `[N]`, `[M]` scores, low for what looks trained on.

    Raises:
      ValueError: no scores, or scores that are NaN.
    """
    forget, holdout = (np.asarray(x, np.float64).ravel() for x in (forget_score, holdout_score))
    for name, scores in (("forget_score", forget), ("holdout_score", holdout)):
        if scores.size == 0 or np.isnan(scores).any():
            raise ValueError(f"{name} must hold numbers, got {scores}")
    ascending = np.sort(holdout)
    below = np.searchsorted(ascending, forget, side="left")
    not_above = np.searchsorted(ascending, forget, side="right")
    return float((below + not_above).mean() / 2 / holdout.size)


def privleak(auc_unlearned: float, auc_retrained: float) -> float:
    """100 (AUC - AUC of the retrained model) / the latter, percent.

    Negative where too little is unlearned, positive where so much that it shows; 0 is the aim.

    Raises:
      ValueError: auc_retrained <= 0 or NaN.

    Source: Shi et al., "MUSE", arXiv 2407.06460, section 3.
    """
    if not auc_retrained > 0:
        raise ValueError(f"auc_retrained must be > 0, got {auc_retrained}")
    return 100 * (auc_unlearned - auc_retrained) / auc_retrained
