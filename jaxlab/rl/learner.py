"""The algorithms behind one interface: rows of a ring in, a better policy out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxlab.rl.networks import Params
from jaxlab.rl.sac import SACConfig, sac_init, sac_update_many
from jaxlab.rl.shared_replay import ReplaySpec, unpack
from jaxlab.rl.td3 import TD3Config, td3_init, td3_update_many


class Learner(NamedTuple):
    """One algorithm.

    Attributes:
      init: key to a state that has `actor` and `step`.
      update_many: (key, state, transitions `[U, B, ...]`, config) to (state, metrics `[U]`).
    """

    init: Callable[[jax.Array], Any]
    update_many: Callable[..., tuple[Any, dict[str, jax.Array]]]


def make_learner(config: SACConfig | TD3Config) -> Learner:
    """The algorithm that a config belongs to.

    Raises:
      TypeError: a config of no known algorithm.
    """
    if isinstance(config, SACConfig):
        return Learner(lambda key: sac_init(key, config), sac_update_many)
    if isinstance(config, TD3Config):
        return Learner(lambda key: td3_init(key, config), td3_update_many)
    raise TypeError(f"config must be a SACConfig or a TD3Config, got {type(config).__name__}")


@functools.partial(jax.jit, static_argnames="config", donate_argnums=1)
def learn_from_rows(
    key: jax.Array, state: Any, rows: jax.Array, config: SACConfig | TD3Config
) -> tuple[Any, dict[str, jax.Array]]:
    """U updates from packed rows `[U, B, D]`, one copy to the device; the state is donated."""
    spec = ReplaySpec(1, config.obs_dim, config.act_dim)
    return make_learner(config).update_many(key, state, unpack(rows, spec), config)


def policy_of(state: Any) -> Params:
    """The actor's parameters on the host, as the board and the samplers take them."""
    return jax.device_get(state.actor)
