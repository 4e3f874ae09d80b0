"""What pure functions ask of what they are given: in which dtype to compute, what to check."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def as_float(x: ArrayLike) -> jax.Array:
    """`x` in its own floating dtype; integers and booleans become JAX's default float."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def as_wide_float(x: ArrayLike) -> jax.Array:
    """`x` in its own floating dtype, but in float32 where that is narrower, or no float."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_concrete(*values: Any) -> bool:
    """Whether all values can be looked at: none is under a trace."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def is_zero(weight: ArrayLike) -> bool:
    """Whether a weight is known to be 0, so that what it weighs need not be there."""
    return is_concrete(weight) and np.ndim(weight) == 0 and bool(weight == 0)
