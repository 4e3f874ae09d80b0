"""What the studies share: keys, calibration once per profile, all methods on one log."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.baselines import best_certified, lcb
from jaxlab.bandits.suprema import MODES, sample_suprema, supremum_quantile
from jaxlab.bandits.trust import TrustConfig, trust_with_penalty
from jaxlab.bandits.trust_region import radius_grid

_BATCH_FLOATS = 1_000_000  # arms times problems solved at once: memory of about 50 MB


def study_key(config, number: int) -> jax.Array:
    """A key of its own for each study, so that one alone draws what it draws among all."""
    return jax.random.fold_in(jax.random.key(config.seed), number)


def trust_config(config, mode: str, num_arms: int = 1) -> TrustConfig:
    """The settings of `trust` that the experiment's config stands for."""
    return TrustConfig(
        config.delta,
        config.delta_ref,
        config.num_radii,
        config.decay,
        config.num_samples,
        mode,
        batch_size(num_arms),
    )


def batch_size(num_arms: int) -> int:
    """How many problems of so many arms are solved at a time."""
    return max(min(_BATCH_FLOATS // num_arms, 64), 1)


class Calibration(NamedTuple):
    """Radii `[R]`, the draws `[M, R]` of the suprema there, and the penalties `[R]` of each mode."""

    radii: jax.Array
    suprema: jax.Array
    penalty: dict[str, jax.Array]

    def scaled(self, factor) -> "Calibration":
        """For noise `factor` times as large: everything here is equivariant."""
        return jax.tree.map(lambda x: factor * x, self)


def calibrate(key: jax.Array, se2: jax.Array, config, num_samples: int | None = None):
    """One calibration `Calibration` for every log with this profile of noise and counts."""
    se2 = jnp.asarray(se2, jnp.float32)
    radii = radius_grid(se2, config.num_radii, config.decay)
    samples = num_samples or config.num_samples
    suprema = _sample(key, se2, radii, samples, batch_size(se2.size))
    penalty = {mode: supremum_quantile(suprema, config.delta, mode) for mode in MODES}
    return Calibration(radii, suprema, penalty)


def decide(stats: ArmStats, calibration: Calibration, config) -> dict[str, Any]:
    """TRUST in both modes, LCB, and the better certified of LCB and joint TRUST, on one log.

    Each result has a `policy` `[K]` and a `lower_bound` `[]`.
    """
    results = {
        mode: trust_with_penalty(stats, calibration.radii, penalty, config.delta_ref)
        for mode, penalty in calibration.penalty.items()
    }
    pessimist = lcb(stats, config.delta)
    best = best_certified(stats, results["joint"], config.delta)
    return results | {"lcb": pessimist, "best": best}


def over_keys(one: Callable, key: jax.Array, count: int, num_arms: int):
    """`one(key)` for `count` keys as one program; leading axis `count` on every result."""
    keys = jax.random.split(key, count)
    size = min(batch_size(num_arms), count)
    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=size))(keys)


_sample = functools.partial(jax.jit, static_argnames=("num_samples", "batch_size"))(sample_suprema)
