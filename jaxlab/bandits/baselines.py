"""What TRUST is compared with, and the better certificate of the two."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.suprema import check_probability
from jaxlab.bandits.trust import TrustResult
from jaxlab.bandits.trust_region import check_se2


class LCBResult(NamedTuple):
    """The arm with the largest lower confidence bound.

    Attributes:
      arm: `[]` its number.
      policy: `[K]` one-hot.
      lower_bounds: `[K]` simultaneous lower bounds on the arms' means; -inf without data.
      lower_bound: `[]` the largest of them.
    """

    arm: jax.Array
    policy: jax.Array
    lower_bounds: jax.Array
    lower_bound: jax.Array


def lcb(stats: ArmStats, delta: float = 0.1) -> LCBResult:
    """Pessimism by arm: `mean_i - sqrt(2 se2_i ln(2 K' / delta))`, K' arms with data.

    All bounds hold at once with probability at least `1 - delta`.

    Raises:
      ValueError: delta outside (0, 1), or an arm's `se2` that is not positive.
    """
    check_probability("delta", delta)
    se2 = check_se2(stats.se2)
    seen = jnp.isfinite(se2)
    log_arms = jnp.log(seen.sum().astype(se2.dtype))
    width = jnp.sqrt(2 * jnp.where(seen, se2, 0) * (log_arms + math.log(2 / delta)))
    bounds = jnp.where(seen, stats.mean - width, -jnp.inf)
    arm = bounds.argmax()
    return LCBResult(arm, _one_hot(arm, bounds), bounds, bounds[arm])


def greedy_policy(stats: ArmStats) -> jax.Array:
    """One-hot `[K]` of the largest empirical mean among arms with data."""
    mean = jnp.where(jnp.asarray(stats.count) > 0, stats.mean, -jnp.inf)
    return _one_hot(mean.argmax(), mean)


def behavior_policy(stats: ArmStats) -> jax.Array:
    """The share `[K]` of each arm in the log."""
    count = jnp.asarray(stats.count, jnp.asarray(stats.mean).dtype)
    return count / count.sum()


def policy_value(policy: ArrayLike, mean: ArrayLike) -> jax.Array:
    """The value `[]` of a policy; the mean of an arm that it never plays may be NaN."""
    policy, mean = jnp.asarray(policy), jnp.asarray(mean)
    return jnp.sum(jnp.where(policy == 0, 0, policy * mean))


class CertifiedResult(NamedTuple):
    """The policy with the larger certificate.

    Attributes:
      policy: `[K]`.
      lower_bound: `[]`.
      source: `[]` 0 for TRUST, 1 for LCB.
    """

    policy: jax.Array
    lower_bound: jax.Array
    source: jax.Array


def best_certified(stats: ArmStats, result: TrustResult, delta: float = 0.1) -> CertifiedResult:
    """TRUST or LCB, whichever certifies more; the total probability of failure adds `delta`.

    TRUST loses to LCB where many badly sampled arms surround a well sampled best arm.

    Raises:
      ValueError: as `lcb`.
    """
    pessimist = lcb(stats, delta)
    switch = pessimist.lower_bound > result.lower_bound
    return CertifiedResult(
        jnp.where(switch, pessimist.policy, result.policy),
        jnp.where(switch, pessimist.lower_bound, result.lower_bound),
        switch.astype(jnp.int32),
    )


def _one_hot(arm: jax.Array, like: jax.Array) -> jax.Array:
    return jax.nn.one_hot(arm, like.shape[0], dtype=like.dtype)
