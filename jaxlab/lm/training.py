"""Training: the loop that any loss and any source of batches go through, with exact resume.

A batch is a function of the step number and so is the key of a step, so the state alone (step,
parameters, optimizer state) says where a run is: restored, it goes on to the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import numpy as np
import optax

from jaxlab.parallel import LossFn, TrainState, init_train_state, make_train_step
from jaxlab.runs import latest_step, progress, restore_checkpoint, save_checkpoint

__all__ = [
    "TrainState",
    "init_train_state",
    "latest_step",
    "make_train_step",
    "restore_state",
    "save_state",
    "train",
]


def train(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    params: Any,
    batch_at: Callable[[int], Any],
    *,
    steps: int,
    key: jax.Array,
    state: TrainState | None = None,
    on_eval: Callable[[TrainState, Mapping[str, float]], None] | None = None,
    eval_every: int = 0,
    parallel: str = "jit",
    grad_accum: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> TrainState:
    """Trains until `steps` optimizer steps have been taken.

    Args:
      loss_fn: (params, batch, key) -> (sum, weight) or (sum, weight, aux), see `make_train_step`.
      tx: optax transformation.
      params: initial parameters; not donated. Ignored when `state` is given.
      batch_at: step number (from 0) -> the global batch of that step.
      steps: total number of steps, those already in `state` included.
      key: step t uses `fold_in(key, t)`.
      state: where to go on from; it is donated. None: the beginning.
      on_eval: called every `eval_every` steps and after the last with the state (to evaluate or
        save; it is donated afterwards) and the means of the metrics since the last call.
      eval_every: 0 calls `on_eval` only after the last step.
      parallel, grad_accum, devices: see `make_train_step`.

    Returns:
      The final TrainState.
    """
    step_fn = make_train_step(
        loss_fn, tx, parallel=parallel, grad_accum=grad_accum, devices=devices
    )
    if state is None:
        state = init_train_state(jax.tree.map(jax.numpy.copy, params), tx)
    pending = []  # metrics stay on the device: reading them would wait for the step
    for step in progress(range(int(state.step), steps), desc="training"):
        state, metrics = step_fn(state, batch_at(step), jax.random.fold_in(key, step))
        pending.append(metrics)
        is_last = step + 1 == steps
        if is_last or (eval_every and (step + 1) % eval_every == 0):
            means = _mean_metrics(pending)
            pending = []
            if on_eval is not None:
                on_eval(state, means)
    return state


def save_state(path: str | PathLike, state: TrainState, *, step: int | None = None, keep: int = 3):
    """Writes a TrainState to `path/<step>` (by default its own step); the newest `keep` stay."""
    return save_checkpoint(path, state, step=int(state.step) if step is None else step, keep=keep)


def restore_state(path: str | PathLike, like: TrainState, *, step: int | None = None) -> TrainState:
    """Reads the newest (or given) step into the structure and shardings of `like`.

    Raises:
      FileNotFoundError: no checkpoint there.
    """
    return restore_checkpoint(path, like, step=step)


def _mean_metrics(rows: list[dict[str, jax.Array]]) -> dict[str, float]:
    """Means over steps; `loss` and other per-token means are weighted by `weight`."""
    rows = jax.device_get(rows)
    weights = np.array([row["weight"] for row in rows], np.float64)
    total = weights.sum() or 1.0
    means = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        unweighted = name in ("weight", "grad_norm")
        means[name] = float(values.mean() if unweighted else (values * weights).sum() / total)
    return means
