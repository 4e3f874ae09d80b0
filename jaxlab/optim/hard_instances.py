"""Data sets on which no first-order method can be fast: order 1 / margin^2 steps at least."""

from typing import NamedTuple

import numpy as np

from jaxlab.checks import check_at_least


class HardDataset(NamedTuple):
    """A separable data set with all that the theory asks about it.

    Attributes:
      X: samples, [n, d].
      y: labels of +-1, alternating, [n].
      sample_weight: of sum 1, [n].
      radius: largest row norm R.
      margin: the maximum margin.
      w_star: the unit vector of that margin, [d].
      min_steps: no method separates the data in fewer steps.
    """

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    radius: float
    margin: float
    w_star: np.ndarray
    min_steps: int


def hard_dataset_online(dim: int) -> HardDataset:
    """`dim` orthonormal samples: margin 1/sqrt(dim), so min_steps = dim = 1/margin^2.

    For methods that see one sample per step and stay in the span of the samples seen: every unseen
    sample has margin 0. The Perceptron needs exactly `dim` updates.
    """
    check_at_least("dim", dim, 1)
    y = _alternating_signs(dim)
    margin = 1 / np.sqrt(dim)
    return HardDataset(
        X=np.diag(y),
        y=y,
        sample_weight=np.full(dim, 1 / dim),
        radius=1.0,
        margin=float(margin),
        w_star=np.full(dim, margin),
        min_steps=dim,
    )


def hard_dataset_batch(dim: int, rho: float = 0.5) -> HardDataset:
    """A chain `y_i x_i = (e_i - rho e_{i+1}) / 2` with weights ~ rho^{i-1}: min_steps = dim.

    For methods that start at 0 and stay in the span of the gradients of the weighted risk, whatever
    the loss and the stepsizes: the gradient at 0 is parallel to e_1, and each step opens one more
    coordinate, so that sample i has margin exactly 0 before step i. As rho goes to 0, dim
    approaches R^2/margin^2. Take rho a power of two: then the cancellation is exact in floating
    point, and huge stepsizes find no rounding noise to amplify.

    Raises:
      ValueError: dim < 2, or rho not inside (0, 1).
    """
    check_at_least("dim", dim, 2)
    if not 0 < rho < 1:
        raise ValueError(f"rho must lie inside (0, 1), got {rho}")
    signed = 0.5 * (np.eye(dim) - rho * np.eye(dim, k=1))
    weight = rho ** np.arange(dim)
    # Solves signed @ w = 1: every sample is a support vector. Entries are sums of powers of rho.
    w = 2 * (1 - rho ** np.arange(dim, 0, -1)) / (1 - rho)
    y = _alternating_signs(dim)
    return HardDataset(
        X=y[:, None] * signed,
        y=y,
        sample_weight=weight / weight.sum(),
        radius=float(np.linalg.norm(signed, axis=1).max()),
        margin=float(1 / np.linalg.norm(w)),
        w_star=w / np.linalg.norm(w),
        min_steps=dim,
    )


def _alternating_signs(count: int) -> np.ndarray:
    return np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
