"""Unlearning that acts on hidden states: representation misdirection.

Source: Li et al., "The WMDP Benchmark", arXiv 2403.03218, section 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least, check_equal_shapes
from jaxlab.unlearn.static_checks import require_not_negative


def rmu_loss(acts: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over rows of the mean squared distance between marked hidden states and one vector.

    Args:
      acts: `[B, T, D]` hidden states of one layer.
      target: `[D]`, from `control_vector`, drawn once and kept.
      mask: `[B, T]` positions that count; a row without any contributes 0.

    Raises:
      ValueError: shapes that do not fit.
    """
    acts, target, mask = as_wide_float(acts), as_wide_float(target), jnp.asarray(mask)
    if acts.ndim != 3 or target.shape != acts.shape[2:]:
        raise ValueError(
            f"acts [B, T, D] and target [D] must agree, got {acts.shape} and {target.shape}"
        )
    check_equal_shapes(acts_without_features=acts[..., 0], mask=mask)
    distance = jnp.mean(jnp.square(acts - target), axis=-1)
    rows = jnp.sum(jnp.where(mask, distance, 0), axis=-1) / jnp.maximum(mask.sum(-1), 1)
    return rows.mean()


def control_vector(key: jax.Array, dim: int, *, coeff: float) -> jax.Array:
    """A random direction with entries >= 0 and norm `coeff`, `[dim]` float32.

    Raises:
      ValueError: dim < 1 or coeff < 0.
    """
    check_at_least("dim", dim, 1)
    require_not_negative("coeff", coeff)
    direction = jax.random.uniform(key, (dim,), minval=np.finfo(np.float32).tiny)
    return coeff * direction / jnp.linalg.norm(direction)
