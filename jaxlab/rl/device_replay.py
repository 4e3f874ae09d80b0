"""A ring of transitions in device memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least
from jaxlab.rl.transition import Transition, check_transition


class ReplayState(NamedTuple):
    """The ring.

    Attributes:
      rows: a Transition of N rows.
      added: `()` int32, rows ever added, capped so that it does not overflow: N more than the
        slot to write next once the ring is full.
    """

    rows: Transition
    added: jax.Array


def replay_init(capacity: int, obs_dim: int, act_dim: int) -> ReplayState:
    """An empty ring of `capacity` rows.

    Raises:
      ValueError: a size below 1.
    """
    for name, size in (("capacity", capacity), ("obs_dim", obs_dim), ("act_dim", act_dim)):
        check_at_least(name, size, 1)
    widths = Transition((obs_dim,), (act_dim,), (), (obs_dim,), ())
    rows = Transition(*(jnp.zeros((capacity, *width)) for width in widths))
    return ReplayState(rows, jnp.zeros((), jnp.int32))


def replay_add(state: ReplayState, batch: Transition) -> ReplayState:
    """The ring with k more rows, over the oldest where it is full.

    Raises:
      ValueError: more rows than the ring has, or a field of another width.
    """
    capacity, obs_dim = state.rows.obs.shape
    k = check_transition(batch, obs_dim, state.rows.action.shape[1])
    if k > capacity:
        raise ValueError(f"{k} rows do not fit into a ring of {capacity}")
    slots = (state.added + jnp.arange(k)) % capacity
    rows = jax.tree.map(lambda ring, new: ring.at[slots].set(new), state.rows, batch)
    added = state.added + k
    return ReplayState(rows, jnp.where(added >= 2 * capacity, added - capacity, added))


def replay_sample(key: jax.Array, state: ReplayState, batch_size: int) -> Transition:
    """Rows drawn uniformly, with replacement, from those that are filled."""
    capacity = len(state.rows.reward)
    filled = jnp.minimum(state.added, capacity)
    index = jax.random.randint(key, (batch_size,), 0, jnp.maximum(filled, 1))
    return jax.tree.map(lambda ring: ring[index], state.rows)
