"""What every loss over ragged rows needs: masked inputs, one float dtype, one aggregation."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_choice

AGGREGATIONS = ("token", "sequence", "constant")


def masked(x: ArrayLike, mask: jax.Array, fill: float = 0.0) -> jax.Array:
    """`x` as floats with `fill` where the mask is off, so that no NaN there meets a gradient."""
    return jnp.where(mask, as_wide_float(x), fill)


def ratio(total: jax.Array, count: jax.Array) -> jax.Array:
    """total / count, and 0 where there is nothing to count."""
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 0)


def aggregate(values: jax.Array, mask: jax.Array, how: str) -> jax.Array:
    """One number from token values [B, T] that are 0 where the mask is off.

    "token": over all valid tokens (DAPO); "sequence": the mean over rows of their means, rows
    without a valid token left out (the original GRPO); "constant": over B T (Dr. GRPO).

    Raises:
      ValueError: another `how`.
    """
    check_choice("agg", how, AGGREGATIONS)
    if how == "token":
        return ratio(jnp.sum(values), jnp.sum(mask))
    if how == "constant":
        return jnp.sum(values) / values.size
    count = jnp.sum(mask, axis=-1)
    return ratio(jnp.sum(ratio(jnp.sum(values, axis=-1), count)), jnp.sum(count > 0))
