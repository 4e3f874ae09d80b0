"""The linear classifier x -> sign(x.w): its margins, and the adjoint map from weights to steps."""

import jax
import jax.numpy as jnp
from jax.experimental.sparse import BCOO

from jaxlab.arrays import as_float

# Margins reach 1e6 and are compared with each other: half-precision products would scramble them.
PRECISION = "highest"


def check_dataset(X, y) -> tuple[jax.Array | BCOO, jax.Array]:
    """Checks the shapes of X [n, d] and y [n] and returns them as floating arrays of one dtype."""
    if not isinstance(X, BCOO):
        X = as_float(X)
    elif not jnp.issubdtype(X.dtype, jnp.floating):
        X = BCOO((as_float(X.data), X.indices), shape=X.shape)
    y = jnp.asarray(y)
    if X.ndim != 2 or y.ndim != 1 or X.shape[0] != y.shape[0]:
        raise ValueError(
            f"X must be [n, d] and y [n] with the same n, got X {X.shape} and y {y.shape}"
        )
    return X, y.astype(X.dtype)


def margins(X: jax.Array | BCOO, y: jax.Array, w: jax.Array) -> jax.Array:
    """z_i = y_i x_i.w, [n]."""
    with jax.default_matmul_precision(PRECISION):
        return y * (X @ w)


def weighted_sum(X: jax.Array | BCOO, y: jax.Array, p: jax.Array) -> jax.Array:
    """sum_i p_i y_i x_i, [d]: the gradient of `margins` in w, applied to p [n]."""
    with jax.default_matmul_precision(PRECISION):
        return (p * y) @ X
