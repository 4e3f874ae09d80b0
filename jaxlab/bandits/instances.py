"""Bandit problems with known means, and logs drawn from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_float, is_concrete
from jaxlab.bandits.arms import ArmStats, check_num_arms


class BanditInstance(NamedTuple):
    """True means `[K]` and the statistics of one log."""

    mean: jax.Array
    stats: ArmStats


def good_bad_instance(key: jax.Array, num_arms: int, good_fraction: float = 0.5) -> BanditInstance:
    """One reward per arm: good arms give Uniform[0.5, 1.5], bad ones N(0, 1/4).

    The first `round(num_arms * good_fraction)` arms are good. No method is told more than that
    the noise has a standard deviation of at most 1/2.

    Raises:
      ValueError: `num_arms` below 1 or `good_fraction` outside [0, 1].
    """
    num_good = count_good(num_arms, good_fraction)
    good_key, bad_key = jax.random.split(key)
    good = jnp.arange(num_arms) < num_good
    uniform = jax.random.uniform(good_key, (num_arms,), minval=0.5, maxval=1.5)
    normal = 0.5 * jax.random.normal(bad_key, (num_arms,))
    mean = good.astype(normal.dtype)
    observed = jnp.where(good, uniform, normal)
    stats = ArmStats(observed, jnp.ones(num_arms, jnp.int32), jnp.full_like(observed, 0.25))
    return BanditInstance(mean, stats)


def count_good(num_arms: int, good_fraction: float) -> int | jax.Array:
    """How many of `num_arms` are good, after checking both numbers; the fraction may be traced."""
    check_num_arms(num_arms)
    if not is_concrete(good_fraction):
        return jnp.round(num_arms * good_fraction)
    if not 0 <= good_fraction <= 1:
        raise ValueError(f"good_fraction must lie in [0, 1], got {good_fraction}")
    return round(num_arms * good_fraction)


def draw_stats(key: jax.Array, mean: ArrayLike, noise_var: ArrayLike, count: ArrayLike) -> ArmStats:
    """Statistics of a fresh log: `mean + N(0, noise_var / count)`.

    Args:
      key: a PRNG key.
      mean: `[K]` true means.
      noise_var, count: scalars or `[K]`; an arm with count 0 has the mean 0.
    """
    mean = as_float(mean)
    noise_var = jnp.broadcast_to(jnp.asarray(noise_var, mean.dtype), mean.shape)
    count = jnp.broadcast_to(jnp.asarray(count), mean.shape)
    seen = count > 0
    deviation = jnp.sqrt(noise_var / jnp.where(seen, count, 1).astype(mean.dtype))
    observed = mean + deviation * jax.random.normal(key, mean.shape, mean.dtype)
    return ArmStats(jnp.where(seen, observed, 0), count, noise_var)
