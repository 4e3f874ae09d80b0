"""TRUST: move from the reference as far as noise cannot explain, and certify the result."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.suprema import (
    check_draws,
    check_probability,
    sample_suprema,
    supremum_quantile,
)
from jaxlab.bandits.trust_region import (
    argmax_along,
    check_radii,
    check_values,
    radius_grid,
    solve,
    support_along,
)
from jaxlab.checks import check_at_least


@dataclasses.dataclass(frozen=True)
class TrustConfig:
    """Settings of TRUST.

    Attributes:
      delta: probability that the penalties fail, in (0, 1).
      delta_ref: probability that the reference's own bound fails, in (0, 1).
      num_radii: R, trust regions that are tried.
      decay: ratio of neighbouring radii, > 1.
      num_samples: M, Monte Carlo draws of the noise.
      mode: `"union"` (as the paper's discretised scheme) or `"joint"` (sharper), see
        `supremum_quantile`.
      batch_size: draws solved at a time.

    Raises:
      ValueError: a field out of range, or too few draws for `delta`.
    """

    delta: float = 0.1
    delta_ref: float = 0.1
    num_radii: int = 20
    decay: float = 1.3
    num_samples: int = 2000
    mode: str = "union"
    batch_size: int = 64

    def __post_init__(self):
        check_probability("delta_ref", self.delta_ref)
        check_at_least("num_radii", self.num_radii, 1)
        if not self.decay > 1:
            raise ValueError(f"decay must be > 1, got {self.decay}")
        check_at_least("batch_size", self.batch_size, 1)
        check_draws(self.num_samples, self.num_radii, self.delta, self.mode)


class TrustResult(NamedTuple):
    """A policy and its certificate.

    Attributes:
      policy: `[K]` probabilities of the arms.
      reference: `[K]` the minimum-variance policy that it started from.
      radius: `[]` the critical radius; 0 where the reference was kept.
      index: `[]` its position in `radii`; -1 where the reference was kept.
      radii: `[R]`.
      improvement: `[R]` largest empirical improvement over the reference in each region.
      penalty: `[R]` what noise can fake there.
      lower_bound: `[]` the policy's value is at least this with probability at least
        `(1 - delta)(1 - delta_ref)`.
      reference_lower_bound: `[]` the same for the reference, with `1 - delta_ref`.
    """

    policy: jax.Array
    reference: jax.Array
    radius: jax.Array
    index: jax.Array  # type: ignore[assignment]  # hides tuple.index
    radii: jax.Array
    improvement: jax.Array
    penalty: jax.Array
    lower_bound: jax.Array
    reference_lower_bound: jax.Array


def trust_with_penalty(
    stats: ArmStats, radii: ArrayLike, penalty: ArrayLike, delta_ref: float = 0.1
) -> TrustResult:
    """Chooses the radius with the largest improvement beyond its penalty.

    Deterministic and of order K log K: calibrate once per profile of counts and noise, then `vmap`
    this over data sets.

    Args:
      stats: the log.
      radii: `[R]`.
      penalty: `[R]` from `supremum_quantile`.
      delta_ref: probability that the reference's bound fails.

    Raises:
      ValueError: shapes that differ, delta_ref outside (0, 1), or stats as in
        `trust_region_support`.
    """
    check_probability("delta_ref", delta_ref)
    mean, se2 = check_values(stats.mean, stats.se2)
    radii, penalty = check_radii(radii, se2.dtype), jnp.asarray(penalty, se2.dtype)
    if radii.ndim != 1 or penalty.shape != radii.shape:
        raise ValueError(
            f"radii and penalty must be vectors of one length, got {radii.shape} and "
            f"{penalty.shape}"
        )
    log_odds = math.log(1 / delta_ref) if is_concrete(delta_ref) else -jnp.log(delta_ref)
    return _choose(mean, se2, radii, penalty, log_odds)


def trust(key: jax.Array, stats: ArmStats, config: TrustConfig = TrustConfig()) -> TrustResult:
    """Finds a policy with a certified value from a log with few rewards per arm.

    The noise is Gaussian, or sub-Gaussian up to constants. A plug-in deviation of rare events is
    not a noise level: it voids the certificate. Where many badly sampled arms surround a well
    sampled best one, LCB certifies more: see `best_certified`.

    Args:
      key: for the Monte Carlo draws.
      stats: the log, from `arm_stats` or `returns_to_arms`.
      config: settings; static under jit.

    Raises:
      ValueError: stats as in `trust_region_support`.

    Source: Zhang, Zhai and Zanette, arXiv 2402.15703.
    """
    _, se2 = check_values(stats.mean, stats.se2)
    radii, penalty = _calibrate(key, se2, config)
    return trust_with_penalty(stats, radii, penalty, config.delta_ref)


@jax.jit
def _choose(
    mean: jax.Array, se2: jax.Array, radii: jax.Array, penalty: jax.Array, log_odds: float
) -> TrustResult:
    seen = jnp.isfinite(se2)
    mean = jnp.where(seen, mean, 0)
    path = solve(mean, se2)
    reference, variance = path.reference
    improvement = support_along(path, radii)
    beyond_noise = improvement - penalty
    best = beyond_noise.argmax()
    moves = beyond_noise[best] > 0
    radius = jnp.where(moves, radii[best], 0)
    policy = jnp.maximum(reference + argmax_along(path, radius), 0)
    reference_bound = reference @ mean - jnp.sqrt(2 * log_odds * variance)
    return TrustResult(
        policy=policy,
        reference=reference,
        radius=radius,
        index=jnp.where(moves, best, -1),
        radii=radii,
        improvement=improvement,
        penalty=penalty,
        lower_bound=reference_bound + jnp.maximum(beyond_noise[best], 0),
        reference_lower_bound=reference_bound,
    )


@functools.partial(jax.jit, static_argnames="config")
def _calibrate(key: jax.Array, se2: jax.Array, config: TrustConfig) -> tuple[jax.Array, jax.Array]:
    radii = radius_grid(se2, config.num_radii, config.decay)
    suprema = sample_suprema(key, se2, radii, config.num_samples, config.batch_size)
    return radii, supremum_quantile(suprema, config.delta, config.mode)
