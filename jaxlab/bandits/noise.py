"""Noise levels that a certificate may be built on when rewards are bounded."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_float, is_concrete


def bounded_sigma(low: float, high: float) -> float:
    """Sub-Gaussian deviation `(high - low) / 2` of rewards in `[low, high]` (Hoeffding).

    Raises:
      ValueError: `low` is not below `high`.
    """
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    return (high - low) / 2


def bernoulli_sigma(p: ArrayLike) -> jax.Array:
    """Sub-Gaussian deviation of a reward that is 1 with probability `p`, elementwise.

    `sigma^2 = (1 - 2 p) / (2 ln((1 - p) / p))`, the smallest that bounds the moment generating
    function. For rare events it is far above the standard deviation `sqrt(p (1 - p))`, whose
    Gaussian tail is too light: 0.2985 against 0.0615 at `p = 0.0038`. It grows with `p` up to 1/2,
    so pass the largest rate that an arm may have.

    Raises:
      ValueError: `p` outside (0, 1).

    Source: Kearns and Saul, UAI 1998.
    """
    p = as_float(p)
    if is_concrete(p) and not ((p > 0) & (p < 1)).all():
        raise ValueError(f"p must lie in (0, 1), got {p}")
    centred = 1 - 2 * p
    flat = jnp.abs(centred) < 1e-3  # 0/0 at p = 1/2, where sigma^2 = 1/4
    log_odds = jnp.where(flat, 1, jnp.log1p(-p) - jnp.log(p))
    return jnp.sqrt(jnp.where(flat, 0.25, centred / (2 * log_odds)))
