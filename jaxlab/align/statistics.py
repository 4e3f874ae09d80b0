"""Order statistics of Best-of-N and the paper's measures of quality. NumPy float64 on the host.

Axes: p prompts (or prompts times keys), m sampled scores of each.
"""

import bisect
import math

import numpy as np
from scipy.integrate import quad
from scipy.special import gammaln, log_ndtr, ndtr, ndtri
from scipy.stats import kendalltau

from jaxlab.checks import check_at_least


def expected_max(scores: np.ndarray, n: int) -> np.ndarray:
    """Unbiased E[max of n draws without replacement] from m scores [..., m]; [...] float64.

    sum over i = n..m of C(i - 1, n - 1) / C(m, n) x_(i), with x_(i) the i-th smallest (the
    estimator of pass@k, Chen et al. 2021). -inf scores are allowed.

    Raises:
      ValueError: n outside 1..m.
    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    m = ordered.shape[-1]
    if not 1 <= n <= m:
        raise ValueError(f"n must be from 1 to the {m} scores at hand, got {n}")
    rank = np.arange(n, m + 1)
    # Logarithms, since C(m, n) leaves float64's range at m of about 1000.
    weight = np.exp(_log_choose(rank - 1, n - 1) - _log_choose(m, n))
    taken = ordered[..., n - 1 :]
    # A weight that has underflowed to 0 still makes -inf of -inf, not NaN.
    impossible = np.isneginf(taken)
    return np.where(impossible[..., 0], -np.inf, np.where(impossible, 0, taken) @ weight)


def equivalent_n(scores: np.ndarray, target: float) -> float:
    """The N of which Best-of-N reaches `target` on average over prompts; scores [p, m].

    Log-linear between neighbouring integers; 1.0 for targets below E max of 1, inf above that of m.

    Raises:
      ValueError: scores that are not [p, m].
    """
    scores = _matrix("scores", scores)
    m = scores.shape[1]

    def curve(n):
        return float(np.mean(expected_max(scores, n)))

    above = bisect.bisect_left(range(1, m + 1), target, key=curve) + 1
    if above == 1:
        return 1.0
    if above > m:
        return math.inf
    below = above - 1
    low, high = curve(below), curve(above)
    if low == -math.inf:
        return float(above)
    return below * (above / below) ** ((target - low) / (high - low))


def improvement_score(baseline_scores: np.ndarray, method_best: np.ndarray) -> float:
    """100 (1 + mean over prompts of (method - max baseline) / (max - min baseline)).

    baseline_scores [p, n], method_best [p]; Best-of-n itself has 100 (the paper's figures).

    Raises:
      ValueError: shapes that do not fit, or a row of equal baseline scores.
    """
    baseline = _matrix("baseline_scores", baseline_scores)
    best = np.asarray(method_best, np.float64)
    if best.shape != baseline.shape[:1]:
        raise ValueError(
            f"method_best must have one score per row of baseline_scores, shape "
            f"{baseline.shape[:1]}, got shape {best.shape}"
        )
    top, width = baseline.max(axis=1), np.ptp(baseline, axis=1)
    if not np.all(width > 0):
        raise ValueError(
            f"baseline_scores of rows {np.flatnonzero(~(width > 0))[:10].tolist()} are constant; "
            "there is no range to measure an improvement by"
        )
    return float(100 * (1 + np.mean((best - top) / width)))


def partial_final_correlation(partial: np.ndarray, final: np.ndarray) -> tuple[float, float]:
    """(Pearson's r, Kendall's tau-b) of partial and final scores, each [m]; nan if one is constant.

    Raises:
      ValueError: unequal shapes, or fewer than two scores.
    """
    partial, final = (np.asarray(x, np.float64) for x in (partial, final))
    if partial.shape != final.shape or partial.ndim != 1 or partial.size < 2:
        raise ValueError(
            f"partial and final must be [m] with m >= 2, got {partial.shape} and {final.shape}"
        )
    if np.ptp(partial) == 0 or np.ptp(final) == 0:
        return math.nan, math.nan
    pearson = np.corrcoef(partial, final)[0, 1]
    return float(pearson), float(kendalltau(partial, final).statistic)


def survival_probability(n: int, alpha: float, rho: float) -> float:
    """Chance that the best of n rows survives one rejection of the worst alpha.

    Phi((rho m_n - z_alpha) / sqrt(1 - rho^2)) for partial and final scores under a Gaussian copula
    of correlation rho, m_n the mean maximum of n standard normals, z_alpha their alpha-quantile. An
    approximation for large n (within .03 at n = 1000).

    Raises:
      ValueError: n < 1, alpha outside [0, 1), rho outside [-1, 1].
    """
    if n < 1 or not 0 <= alpha < 1 or not -1 <= rho <= 1:
        raise ValueError(
            f"need n >= 1, alpha in [0, 1) and rho in [-1, 1], got {n}, {alpha} and {rho}"
        )
    distance = rho * _mean_normal_maximum(n) - ndtri(alpha)
    width = math.sqrt(1 - rho**2)
    return float(ndtr(distance / width)) if width else float(distance >= 0)


def token_saving(growth: float, alpha: float) -> float:
    """Upper bound on tokens of Best-of-n_init over tokens of speculative rejection.

    x ln(1/k) / ((1 - k) ln x) with k = 1 - alpha kept and `growth` x = (P + max_new_tokens) /
    (P + first segment): a round refills (1 - k) of the capacity, and log_(1/k) x rounds follow the
    first, which is not counted. For alpha = 1/2 it is 2 x / log2 x. No row stops early.

    Raises:
      ValueError: growth <= 1 or alpha outside (0, 1).
    """
    if not growth > 1 or not 0 < alpha < 1:
        raise ValueError(f"need growth > 1 and alpha in (0, 1), got {growth} and {alpha}")
    return growth * -math.log1p(-alpha) / (alpha * math.log(growth))


def bon_kl_bound(n: int) -> float:
    """log n - (n - 1) / n nats, which KL(Best-of-n || model) does not exceed."""
    check_at_least("n", n, 1)
    return math.log(n) - (n - 1) / n


def _matrix(name: str, scores) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"{name} must be [p, n], a row per prompt, got shape {scores.shape}")
    return scores


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _mean_normal_maximum(n: int) -> float:
    """E max of n standard normals, by integrating x times the density n phi Phi^(n - 1)."""

    def integrand(x):
        return x * n * np.exp(-(x**2) / 2 + (n - 1) * log_ndtr(x)) / math.sqrt(2 * math.pi)

    return quad(integrand, -12, 12, points=(0.0, 4.0), limit=200)[0]
