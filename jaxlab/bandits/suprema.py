"""How much improvement pure noise can fake in a trust region, by Monte Carlo."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.bandits.trust_region import check_radii, check_se2, support_of
from jaxlab.checks import check_at_least, check_choice

MODES = ("union", "joint")


def sample_suprema(
    key: jax.Array, se2: ArrayLike, radii: ArrayLike, num_samples: int, batch_size: int = 64
) -> jax.Array:
    """Draws `X(eps) = sup_Delta Delta . eta` with `eta ~ N(0, diag(se2))`.

    Row m uses `jax.random.split(key, num_samples)[m]`, so the result does not depend on
    `batch_size`; memory is of order `batch_size * K`.

    Args:
      key: a PRNG key.
      se2: `[K]`, infinite where there is no data (no noise there).
      radii: `[R]`.
      num_samples: M.
      batch_size: draws solved at a time.

    Returns:
      `[M, R]`.

    Raises:
      ValueError: `num_samples` or `batch_size` below 1, or arrays as in `trust_region_support`.
    """
    se2 = check_se2(se2)
    radii = check_radii(radii, se2.dtype)
    if radii.ndim != 1:
        raise ValueError(f"radii must be a vector [R], got shape {radii.shape}")
    for name, value in (("num_samples", num_samples), ("batch_size", batch_size)):
        check_at_least(name, value, 1)
    deviation = jnp.sqrt(jnp.where(jnp.isfinite(se2), se2, 0))

    def draw(key):
        noise = deviation * jax.random.normal(key, se2.shape, se2.dtype)
        return support_of(noise, se2, radii)

    keys = jax.random.split(key, num_samples)
    return jax.lax.map(draw, keys, batch_size=min(batch_size, num_samples))


def supremum_quantile(suprema: ArrayLike, delta: float, mode: str = "union") -> jax.Array:
    """Penalties `G` with `P(X(eps) <= G(eps) for every radius) >= 1 - delta`, exactly.

    `"union"` takes, per radius, an order statistic at level `1 - delta / R`. `"joint"` centres and
    scales by one half of the draws and calibrates the largest score on the other (split
    conformal), which spends nothing on the number of radii.

    Args:
      suprema: `[M, R]` from `sample_suprema`.
      delta: probability of failure, in (0, 1).
      mode: `"union"` or `"joint"`.

    Returns:
      `[R]`.

    Raises:
      ValueError: a shape other than `[M, R]`, delta outside (0, 1), an unknown mode, or too few
        draws; the message says how many `num_samples` are needed.
    """
    suprema = jnp.asarray(suprema)
    if suprema.ndim != 2:
        raise ValueError(f"suprema must be [M, R], got shape {suprema.shape}")
    num_samples, num_radii = suprema.shape
    check_draws(num_samples, num_radii, delta, mode)
    if mode == "union":
        rank = _rank(1 - delta / num_radii, num_samples)
        return jnp.sort(suprema, axis=0)[rank - 1]
    half = num_samples // 2
    centre, scale = suprema[:half].mean(0), suprema[:half].std(0)
    scored = suprema[half:] - centre
    scores = jnp.where(scale > 0, scored / jnp.where(scale > 0, scale, 1), -jnp.inf).max(1)
    rank = _rank(1 - delta, num_samples - half)
    level = jnp.sort(scores)[rank - 1]
    return jnp.maximum(centre + jnp.where(scale > 0, scale * level, 0), 0)


def check_draws(num_samples: int, num_radii: int, delta: float, mode: str) -> None:
    """Raises ValueError unless so many draws can certify this level."""
    check_choice("mode", mode, MODES)
    check_probability("delta", delta)
    if mode == "union":
        needed = math.ceil(num_radii / delta - 1 - 1e-9)
    else:
        needed = max(4, 2 * math.ceil(1 / delta - 1 - 1e-9))
    if num_samples < needed:
        raise ValueError(
            f"num_samples must be >= {needed} for delta {delta} and {num_radii} radii in mode "
            f"{mode!r}, got {num_samples}"
        )


def check_probability(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in (0, 1) or is traced."""
    if is_concrete(value) and not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}")


def _rank(level: float, count: int) -> int:
    """The order statistic of `count` draws that a further draw exceeds with at most 1 - level."""
    return math.ceil(level * (count + 1) - 1e-9)  # 1e-9: levels such as 0.9 are not binary
