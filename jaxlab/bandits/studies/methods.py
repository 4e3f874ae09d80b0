"""What the studies share: keys, calibration once per profile, all methods on one log."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.baselines import best_certified, lcb
from jaxlab.bandits.suprema import MODES, sample_suprema, supremum_quantile
from jaxlab.bandits.trust import TrustConfig, trust_with_penalty
from jaxlab.bandits.trust_region import radius_grid

_BATCH_FLOATS = 1_000_000  # arms times problems solved at once: memory of about 50 MB
_MAX_BATCH = 1000


def trust_config(config, mode: str, num_arms: int = 1) -> TrustConfig:
    """The settings of `trust` that the experiment's config stands for."""
    return TrustConfig(
        config.delta,
        config.delta_ref,
        config.num_radii,
        config.decay,
        config.num_samples,
        mode,
        batch_size(num_arms, config.num_samples),
    )


def batch_size(num_arms: int, count: int) -> int:
    """How many of `count` problems of so many arms to solve at a time.

    A divisor of `count` where a large one exists: a remainder is compiled as a second program.
    """
    limit = max(min(_BATCH_FLOATS // num_arms, _MAX_BATCH, count), 1)
    divisor = next(size for size in range(limit, 0, -1) if count % size == 0)
    return divisor if 2 * divisor >= limit else limit


class Calibration(NamedTuple):
    """Radii `[R]` and the penalties `[R]` of each mode, with that of the largest radius alone."""

    radii: jax.Array
    penalty: dict[str, jax.Array]
    largest_only: jax.Array  # [1]

    def scaled(self, factor) -> "Calibration":
        """For noise `factor` times as large: everything here is equivariant."""
        return jax.tree.map(lambda x: factor * x, self)


def calibrate(
    key: jax.Array, se2: ArrayLike, config, num_samples: int | None = None
) -> Calibration:
    """One calibration for every log with the profile `se2` `[K]` of noise and counts."""
    samples = num_samples or config.num_samples
    grid = config.num_radii, config.decay
    se2 = jnp.asarray(se2, jnp.float32)
    return _calibrate(key, se2, *grid, samples, config.delta, batch_size(se2.size, samples))


def decide(stats: ArmStats, calibration: Calibration, config) -> dict[str, Any]:
    """TRUST in both modes, LCB, and the better certified of LCB and joint TRUST, on one log.

    Each result has a `policy` `[K]` and a `lower_bound` `[]`.
    """
    # Batched over the modes, which share the sort and its sums.
    both = jax.vmap(lambda g: trust_with_penalty(stats, calibration.radii, g, config.delta_ref))(
        jnp.stack(list(calibration.penalty.values()))
    )
    results = {
        mode: jax.tree.map(lambda x, number=number: x[number], both)
        for number, mode in enumerate(calibration.penalty)
    }
    pessimist = lcb(stats, config.delta)
    best = best_certified(stats, results["joint"], config.delta)
    return results | {"lcb": pessimist, "best": best}


def over_keys(one: Callable, config, key: jax.Array, count: int, num_arms: int, *operands):
    """`one(config, key, *operands)` for `count` keys, a leading axis on every result.

    One compiled program for every call with the same `one`, `config` and shapes: let `one` be a
    function of a module, and what differs between calls an operand.
    """
    keys = jax.random.split(key, count)
    return jax.device_get(_map(one, config, keys, batch_size(num_arms, count), operands))


@functools.partial(jax.jit, static_argnames=("one", "config", "size"))
def _map(one: Callable, config, keys: jax.Array, size: int, operands):
    return jax.lax.map(lambda key: one(config, key, *operands), keys, batch_size=size)


@functools.partial(
    jax.jit, static_argnames=("num_radii", "decay", "num_samples", "delta", "batch_size")
)
def _calibrate(key, se2, num_radii, decay, num_samples, delta, batch_size) -> Calibration:
    radii = radius_grid(se2, num_radii, decay)
    suprema = sample_suprema(key, se2, radii, num_samples, batch_size)
    penalty = {mode: supremum_quantile(suprema, delta, mode) for mode in MODES}
    return Calibration(radii, penalty, supremum_quantile(suprema[:, :1], delta))
