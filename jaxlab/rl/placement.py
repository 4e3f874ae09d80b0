"""Where the learner of an asynchronous run computes: one device, two, or all of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab import parallel
from jaxlab.rl.data_parallel import rows_of_this_process
from jaxlab.rl.dual import dual_init, dual_merge, dual_step
from jaxlab.rl.learner import learn_from_rows
from jaxlab.rl.sac import SACConfig, draw_noise, sac_step
from jaxlab.rl.shared_replay import ReplaySpec, unpack


class Placement(NamedTuple):
    """A learner on its devices.

    Attributes:
      spread: the algorithm's state to that on the devices.
      learn: (key, state on the devices, rows `[U, B, D]`) to (state, metrics `[U]`).
      policy: a copy of the actor's parameters on the device. It waits for nothing, and it outlives
        the state, which `learn` donates.
      gather: back to the algorithm's state.
    """

    spread: Callable[[Any], Any]
    learn: Callable[[jax.Array, Any, jax.Array], tuple[Any, dict[str, jax.Array]]]
    policy: Callable[[Any], Any]
    gather: Callable[[Any], Any]


def make_placement(config, mode: str, batch_size: int) -> Placement:
    """`"dual"`: actor and critics on two devices; `"pmap"`: rows over all; else one device.

    All give the numbers of one device, up to rounding. In a run of several processes `"pmap"` is
    over the devices of all: every process calls `learn` with the same key and its share of the
    `batch_size` rows.

    Raises:
      ValueError: fewer than two devices, another algorithm than SAC, for `"dual"` another order
        than "parallel", for `"pmap"` a batch that the devices do not divide; several processes in
        another mode.
    """
    if mode != "pmap" and jax.process_count() > 1:
        raise ValueError(f"several processes train together in mode 'pmap', not {mode!r}")
    if mode not in ("dual", "pmap"):
        return Placement(
            _same,
            lambda *args: learn_from_rows(*args, config),
            lambda state: _copy(state.actor),
            _same,
        )
    devices = jax.local_devices()
    if jax.device_count() < 2:
        raise ValueError(f"mode {mode!r} needs two devices or more, there is {jax.device_count()}")
    if not isinstance(config, SACConfig):
        raise ValueError(f"mode {mode!r} trains SAC, the config is a {type(config).__name__}")
    return _dual(config, devices) if mode == "dual" else _data_parallel(config, devices, batch_size)


def _dual(config: SACConfig, devices) -> Placement:
    if config.order != "parallel":
        raise ValueError(f'mode "dual" computes order "parallel", the config says {config.order!r}')

    def step(state, batch, noise):
        return dual_step(state, batch, noise, config)

    return Placement(
        lambda state: dual_init(state, *devices[:2]),
        _one_by_one(step, config, slice(None)),
        lambda state: _copy(state.actor_side.own.actor),
        dual_merge,
    )


def _data_parallel(config: SACConfig, devices, batch_size: int) -> Placement:
    count, everywhere = len(devices), jax.device_count()
    if batch_size % everywhere:
        raise ValueError(
            f"batch_size must be a multiple of the {everywhere} devices, got {batch_size}"
        )
    mapped = parallel.map_step(
        functools.partial(sac_step, config=config, axis=parallel.AXIS), (0, 0)
    )

    def step(state, batch, noise):
        state, metrics = mapped(state, *parallel.shard_batch((batch, noise), count))
        return state, parallel.to_local(metrics)

    return Placement(
        parallel.place_on_mesh,
        _one_by_one(step, config, rows_of_this_process(batch_size)),
        lambda state: _copy(parallel.to_local(state.actor)),
        parallel.to_local,
    )


def _one_by_one(step, config: SACConfig, mine: slice):
    """U steps, with the keys of `sac_update_many`; `mine` are this process's of a batch's rows.

    Every process draws the noise of the whole batch and takes that of its rows: so no two rows
    share noise, and any number of processes takes the same steps.
    """
    spec, processes = ReplaySpec(1, config.obs_dim, config.act_dim), jax.process_count()

    def learn(key, state, rows):
        history = []
        for step_key, block in zip(jax.random.split(key, len(rows)), rows, strict=True):
            noise = draw_noise(step_key, len(block) * processes, config.act_dim)
            noise = jax.tree.map(lambda eps: eps[mine], noise)
            state, metrics = step(state, unpack(block, spec), noise)
            history.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *history)

    return learn


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


def _same(state):
    return state
