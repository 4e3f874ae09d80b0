"""Training several seeds at once: one program, seeds spread over devices and vmapped on each."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import parallel
from jaxlab.twohop.model import ModelConfig, init_params
from jaxlab.twohop.task import TaskConfig, sample_batch
from jaxlab.twohop.training import (
    Piece,
    TrainConfig,
    TrainProgress,
    TrainResult,
    advance,
    append,
    check_fit,
    evaluate,
    is_kept,
    is_over,
    make_optimizer,
    pieces,
    records_like,
    warn_if_stuck,
)


def train_seeds(
    keys: jax.Array,
    task: TaskConfig,
    model: ModelConfig,
    train: TrainConfig,
    *,
    devices: Sequence[jax.Device] | None = None,
    progress: TrainProgress | None = None,
    on_eval: Callable[[TrainProgress], None] | None = None,
) -> list[TrainResult]:
    """What `train` gives for each key, up to rounding, all keys together.

    A seed that is over stands still until the last one is. Pays where a device has room beside one
    seed; on a CPU a loop over `train` is as fast.

    Args:
      keys: `[S]`, one a seed.
      task, model, train: settings of all.
      devices: over which the seeds are split evenly; by default as many local ones as divide S.
      progress, on_eval: as in `train`. Leaves of the state are `[D, S/D, ...]`, one row a device;
        of the history `[E, S, ...]`; of the checkpoints `[S, ...]`.

    Raises:
      ValueError: as `train`; a number of seeds that the devices do not divide.
    """
    check_fit(task, model)
    devices = _devices(keys.shape[0], devices)
    init_keys, data_keys, eval_keys = jnp.moveaxis(
        jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0
    )
    if progress is None:
        progress = TrainProgress(_initial(init_keys, model, train, devices), {}, {})
    shard = functools.partial(parallel.shard_batch, devices=devices)
    data_keys = shard(data_keys)
    batches = shard(jax.vmap(lambda key: sample_batch(key, task, train.eval_size))(eval_keys))

    state, history, kept = progress
    while (active := _active(history, train, keys.shape[0])).any():
        losses = []
        for piece in pieces(history, train):
            program = _program(task, model, train, piece, devices)
            state, row = program(state, shard(active), data_keys, batches)
            losses.append(row["loss"] * (piece.num_steps / piece.chunk))
            step = int(row["step"].max())
            if is_kept(step, train):
                kept = kept | {step: _on_host(state.params)}
        history = append(history, _on_host(row | {"loss": sum(losses)}))
        for seed in np.flatnonzero(active):
            warn_if_stuck({name: x[:, seed] for name, x in history.items()}, train)
        if on_eval is not None:
            on_eval(TrainProgress(state, history, kept))
    return _split(_on_host(state.params), history, kept)


def seeds_progress_like(
    keys: jax.Array,
    task: TaskConfig,
    model: ModelConfig,
    train: TrainConfig,
    step: int,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> TrainProgress:
    """As `progress_like`, for `train_seeds` with the same keys and devices."""
    count = keys.shape[0]
    state = _initial(keys, model, train, _devices(count, devices))
    params = init_params(keys[0], model)
    history, kept = records_like(params, task, model, train, step)
    return TrainProgress(
        state,
        {name: np.stack([x] * count, axis=1) for name, x in history.items()},
        jax.tree.map(lambda x: np.stack([x] * count), kept),
    )


def _devices(count: int, devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    if devices is not None:
        return tuple(devices)
    local = jax.local_devices()
    most = max(n for n in range(1, len(local) + 1) if count % n == 0)
    return tuple(local[:most])


def _initial(keys, model: ModelConfig, train: TrainConfig, devices) -> parallel.TrainState:
    def initial(key):
        return parallel.init_train_state(init_params(key, model), make_optimizer(train))

    return parallel.shard_batch(jax.vmap(initial)(keys), devices=devices)


@functools.lru_cache(maxsize=16)
def _program(
    task: TaskConfig, model: ModelConfig, train: TrainConfig, piece: Piece, devices: tuple
):
    def chunk(state, active, data_key, batch):
        moved, loss = advance(state, data_key, task, model, train, piece)
        state = jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state)
        return state, evaluate(state.params, batch, model) | {"loss": loss, "step": state.step}

    return parallel.map_rows(chunk, devices=devices, donate_argnums=0)


def _active(history: dict[str, np.ndarray], train: TrainConfig, count: int) -> np.ndarray:
    """`[S]` the seeds that are not over."""
    return np.array(
        [
            not is_over({name: x[:, seed] for name, x in history.items()}, train)
            for seed in range(count)
        ]
    )


def _on_host(tree):
    """Leaves `[D, S/D, ...]` as NumPy arrays `[S, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(tree))


def _split(params, history: dict[str, np.ndarray], kept) -> list[TrainResult]:
    results = []
    for seed in range(history["step"].shape[1]):
        steps = history["step"][:, seed]
        moving = np.append(True, np.diff(steps) > 0)

        def own(x, seed=seed):
            return x[seed]

        results.append(
            TrainResult(
                jax.tree.map(own, params),
                {name: x[moving, seed] for name, x in history.items()},
                {at: jax.tree.map(own, tree) for at, tree in kept.items() if at <= steps[-1]},
            )
        )
    return results
