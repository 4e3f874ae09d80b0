"""The rates that the paper reports, and what an update costs."""

import itertools
from typing import NamedTuple


class Throughput(NamedTuple):
    """Rates in Hz.

    Attributes:
      sample_hz: transitions collected per second, over all samplers.
      update_hz: updates per second.
      update_frame_hz: rows learned from per second, batch size times updates.
    """

    sample_hz: float
    update_hz: float
    update_frame_hz: float


def throughput(env_steps: int, updates: int, batch_size: int, seconds: float) -> Throughput:
    """The rates over a stretch of `seconds`.

    Raises:
      ValueError: seconds not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    return Throughput(env_steps / seconds, updates / seconds, batch_size * updates / seconds)


def sac_flops(config, batch_size: int) -> tuple[int, int]:
    """Floating-point operations of the critics' and the actor's half of one SAC step.

    The products of the networks alone, a multiplication and an addition each; XLA's count of the
    compiled step is one or two per cent higher.

    Args:
      config: a `SACConfig`.
      batch_size: B.
    """
    first, last = config.hidden[0], config.hidden[-1]
    between = sum(a * b for a, b in itertools.pairwise(config.hidden))
    obs, act, critics = config.obs_dim, config.act_dim, config.n_critics
    actor = obs * first + between + 2 * act * last
    critic = (obs + act) * first + between + last
    # Next actions, targets, forward, gradients of the weights, gradients of the hidden layers.
    critic_half = actor + 3 * critics * critic + critics * (critic - (obs + act) * first)
    # Forward through both, back through the critics to the action, then through the actor.
    actor_half = actor + 2 * critics * critic + actor + (actor - obs * first)
    return 2 * batch_size * critic_half, 2 * batch_size * actor_half
