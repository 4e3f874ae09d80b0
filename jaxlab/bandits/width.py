"""The width of a trust region among very many equal arms, in closed form."""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from jaxlab.arrays import as_float

_BISECTIONS = 60
_LINEAR = 0.04  # below this no arm's weight reaches zero, to 1e-7


def asymptotic_width(t: ArrayLike) -> jax.Array:
    """`E X(eps) / s` as K grows, where `K eps^2 / s^2 = t`, elementwise for `t >= 0`.

    A policy keeps the arms whose noise exceeds a threshold `nu`:
    `E(Z - nu)_+^2 / (E(Z - nu)_+)^2 = 1 + t`, and the width is `P(Z > nu) / E(Z - nu)_+`.
    """
    t = as_float(t)
    bent = jnp.maximum(t, _LINEAR)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        first, second = _moments(middle)
        too_spread = second > (1 + bent) * jnp.square(first)
        return jnp.where(too_spread, low, middle), jnp.where(too_spread, middle, high)

    start = jnp.full_like(bent, -6.0), jnp.full_like(bent, 12.0)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, start)
    nu = (low + high) / 2
    return jnp.where(t < _LINEAR, jnp.sqrt(t), norm.sf(nu) / _moments(nu)[0])


def _moments(nu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and second moment of `(Z - nu)_+`."""
    density, tail = norm.pdf(nu), norm.sf(nu)
    return density - nu * tail, (1 + jnp.square(nu)) * tail - nu * density
