"""When training ends, and what must hold while it goes on."""

import math
from typing import Any

import jax
import numpy as np

from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.progress_log import ProgressLog

# In the order of their numbers, by which several processes tell them to one another.
REASONS = (None, "max_seconds", "target_return", "max_updates", "interrupted")


def reason_to_stop(host: HostConfig, log: ProgressLog, updates: int) -> str | None:
    """Which end of `HostConfig` is reached, None while none is."""
    if host.max_updates is not None and updates >= host.max_updates:
        return "max_updates"
    goal = math.inf if host.target_return is None else host.target_return
    if log.history and log.history[-1].mean_return >= goal:
        return "target_return"
    return "max_seconds" if log.seconds() >= host.max_seconds else None


def updates_of_next_call(host: HostConfig, updates: int) -> int:
    """U, or fewer where `max_updates` is nearer."""
    if host.max_updates is None:
        return host.updates_per_call
    return min(host.updates_per_call, host.max_updates - updates)


def must_wait(host: HostConfig, env_steps: int, updates: int) -> bool:
    """Whether the learner is further ahead of the samplers than `max_replay_ratio` allows."""
    if host.max_replay_ratio is None:
        return False
    return updates * host.batch_size > host.max_replay_ratio * env_steps


def check_losses(metrics: dict[str, Any], updates: int) -> None:
    """Waits for a call's metrics.

    Raises:
      FloatingPointError: one that is not finite, with the update that it belongs to.
    """
    for name, values in jax.device_get(metrics).items():
        finite = np.isfinite(values)
        if not finite.all():
            at = updates - len(values) + int(np.argmin(finite)) + 1
            raise FloatingPointError(f"{name} is {values[~finite][0]} at update {at}")
