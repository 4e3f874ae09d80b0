"""The floating dtype in which a function computes, from that of what it is given."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def as_float(x: ArrayLike) -> jax.Array:
    """`x` in its own floating dtype; integers and booleans become JAX's default float."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def as_wide_float(x: ArrayLike) -> jax.Array:
    """`x` in its own floating dtype, but in float32 where that is narrower, or no float."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
