"""The maximum margin of a data set, with a certificate from both sides."""

from typing import NamedTuple

import numpy as np
import scipy.optimize
from jax.experimental.sparse import BCOO

_ROUNDS = 4


class MaxMarginResult(NamedTuple):
    """A unit vector and a convex combination whose values enclose the maximum margin.

    Attributes:
      w: unit vector of the margin, [d] (zeros where the data is inseparable).
      margin: `min_i y_i x_i.w`, a lower bound (0.0 where inseparable).
      upper: `|sum_i dual_i y_i x_i|_2`, an upper bound.
      dual: weights of the support vectors, not negative and of sum 1, [n].
      separable: whether a plane through the origin separates the data.
    """

    w: np.ndarray
    margin: float
    upper: float
    dual: np.ndarray
    separable: bool


def max_margin(X: np.ndarray | BCOO, y: np.ndarray, *, tol: float = 1e-9) -> MaxMarginResult:
    """Computes `max_{|w|=1} min_i y_i x_i.w = min_{p in simplex} |sum_i p_i y_i x_i|_2`.

    On the host, in float64, by nonnegative least squares. With R the largest row norm, a margin of
    at most `tol` R is reported as inseparable.

    Args:
      X: samples, [n, d].
      y: labels of +-1, [n].
      tol: gap between the two bounds, relative to R, at which to stop.

    Raises:
      ValueError: shapes that do not fit, or X with nan or infinity.
    """
    X = np.asarray(X.todense() if isinstance(X, BCOO) else X, np.float64)
    y = np.asarray(y, np.float64)
    if X.ndim != 2 or y.ndim != 1 or X.shape[0] != y.shape[0]:
        raise ValueError(
            f"X must be [n, d] and y [n] with the same n, got X {X.shape} and y {y.shape}"
        )
    if not np.isfinite(X).all():
        raise ValueError("X holds nan or infinity: clean the data first")
    signed = y[:, None] * X
    radius = np.linalg.norm(signed, axis=1).max()
    uniform = np.full(len(y), 1 / len(y))
    best = MaxMarginResult(np.zeros(X.shape[1]), 0.0, np.inf, uniform, False)
    if radius == 0:
        return best._replace(upper=0.0)

    scale = radius
    for _ in range(_ROUNDS):
        # q ~ p minimizes |Z^T q / scale|^2 + (sum q - 1)^2; a scale near the margin weighs both
        # terms alike, where a scale of R would drown a tiny margin in rounding.
        system = np.vstack([signed.T / scale, np.ones(len(y))])
        target = np.append(np.zeros(X.shape[1]), 1.0)
        q, _ = scipy.optimize.nnls(system, target)
        dual = q / q.sum()
        combined = dual @ signed
        upper = float(np.linalg.norm(combined))
        w = combined / upper if upper > 0 else combined
        margin = float((signed @ w).min())
        if upper - margin < best.upper - best.margin:
            best = MaxMarginResult(w, margin, upper, dual, bool(margin > tol * radius))
        if best.upper - best.margin <= tol * radius or upper <= tol * radius:
            break
        scale = upper
    if not best.separable:
        best = best._replace(w=np.zeros(X.shape[1]), margin=0.0)
    return best
