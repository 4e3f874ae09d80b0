"""Training the decoder on fresh problems, with the mechanisms' observables along the way."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab import parallel
from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least, check_choice
from jaxlab.twohop.model import (
    ModelConfig,
    Params,
    forward_with_cache,
    init_params,
    query_logits,
)
from jaxlab.twohop.observables import role_attention, role_probs
from jaxlab.twohop.task import TaskConfig, TwoHopBatch, sample_batch

OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
      optimizer: `"adamw"` or `"muon"`.
      lr: constant learning rate. One notch too high and the transition never comes.
      b1, b2: moments of Adam.
      weight_decay: decoupled, AdamW only.
      batch_size: fresh problems a step.
      steps: at most.
      eval_every: steps between evaluations, fused into one program.
      eval_size: problems of an evaluation.
      stop_accuracy: accuracy at which to stop; None goes on to `steps`.
      stop_after: steps to go on after that.
      keep_every: steps between kept checkpoints; 0 keeps none.

    Raises:
      ValueError: a number out of range or an unknown optimizer.
    """

    optimizer: str = "adamw"
    lr: float = 3e-4
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 1e-4
    batch_size: int = 512
    steps: int = 10_000
    eval_every: int = 50
    eval_size: int = 512
    stop_accuracy: float | None = 0.99
    stop_after: int = 100
    keep_every: int = 0

    def __post_init__(self):
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        for name in ("batch_size", "steps", "eval_every", "eval_size"):
            check_at_least(name, getattr(self, name), 1)


class TrainResult(NamedTuple):
    """What training leaves.

    Attributes:
      params: after the last step.
      history: arrays over evaluations: `step`, `loss` (mean training loss of the chunk, nats),
        `eval_loss`, `accuracy`, the four fields of `RoleProbs` `[E]` and the seven of
        `RoleAttention` `[E, L, H]`.
      checkpoints: parameters as NumPy arrays by step.
    """

    params: Params
    history: dict[str, np.ndarray]
    checkpoints: dict[int, Params]


class TrainProgress(NamedTuple):
    """Between two chunks, what an exact resume needs.

    Attributes:
      state: parameters, optimizer state and step. The next chunk takes its arrays over, so whoever
        keeps one beyond `on_eval` copies it.
      history: rows so far.
      checkpoints: kept so far.
    """

    state: parallel.TrainState
    history: dict[str, np.ndarray]
    checkpoints: dict[int, Params]


class Piece(NamedTuple):
    """`num_steps` steps from the `offset`-th on of a chunk of `chunk` between two evaluations."""

    chunk: int
    offset: int
    num_steps: int


def loss_fn(params: Params, batch: TwoHopBatch, config: ModelConfig) -> jax.Array:
    """Mean cross-entropy `[]` at the query, in nats."""
    total, count = loss_sums(params, batch, config)
    return total / count


def loss_sums(params: Params, batch: TwoHopBatch, config: ModelConfig) -> tuple[jax.Array, int]:
    """`loss_fn` as a sum and its weight, for training steps that split a batch."""
    logits = as_wide_float(query_logits(params, batch.tokens, config))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.answer)
    return losses.sum(), losses.shape[0]


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """The optimizer of a `TrainConfig`: all leaves are decayed by AdamW, Muon decays none."""
    if config.optimizer == "muon":
        return optax.contrib.muon(config.lr, adam_b1=config.b1, adam_b2=config.b2)
    return optax.adamw(config.lr, config.b1, config.b2, weight_decay=config.weight_decay)


def train(
    key: jax.Array,
    task: TaskConfig,
    model: ModelConfig,
    train: TrainConfig,
    params: Params | None = None,
    *,
    progress: TrainProgress | None = None,
    on_eval: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Trains until the accuracy is reached or the steps are over; same key, same bits.

    Args:
      key: for parameters, problems and evaluation.
      task, model, train: settings.
      params: where to start; fresh ones by default.
      progress: what an earlier call handed to `on_eval`; training goes on from there.
      on_eval: called after every evaluation.

    Raises:
      ValueError: a model with another vocabulary than the task, or too short for it.

    Warns:
      UserWarning: the failure signature of a learning rate that is too high.
    """
    check_fit(task, model)
    init_key, data_key, eval_key = jax.random.split(key, 3)
    if progress is None:
        fresh = init_params(init_key, model) if params is None else jax.tree.map(jnp.copy, params)
        state = parallel.init_train_state(fresh, make_optimizer(train))
        progress = TrainProgress(state, {}, {})
    eval_batch = sample_batch(eval_key, task, train.eval_size)
    state, history, kept = progress
    while not is_over(history, train):
        losses = []
        for piece in pieces(history, train):
            state, loss = _chunk(state, data_key, task, model, train, piece)
            losses.append(loss * (piece.num_steps / piece.chunk))
            if is_kept(int(state.step), train):
                kept = kept | {int(state.step): jax.device_get(state.params)}
        row = _evaluate(state.params, eval_batch, model) | {"loss": sum(losses), "step": state.step}
        history = append(history, jax.device_get(row))
        warn_if_stuck(history, train)
        if on_eval is not None:
            on_eval(TrainProgress(state, history, kept))
    return TrainResult(state.params, history, kept)


def progress_like(
    task: TaskConfig, model: ModelConfig, train: TrainConfig, step: int
) -> TrainProgress:
    """A `TrainProgress` with the structure, shapes and dtypes of the one after `step` steps.

    What a checkpoint is restored into; its values mean nothing.
    """
    params = init_params(jax.random.key(0), model)
    state = parallel.init_train_state(params, make_optimizer(train))
    return TrainProgress(state, *records_like(params, task, model, train, step))


def records_like(
    params: Params, task: TaskConfig, model: ModelConfig, train: TrainConfig, step: int
) -> tuple[dict[str, np.ndarray], dict[int, Params]]:
    """History and checkpoints of `progress_like`, of one run."""
    count = -(-step // train.eval_every)
    batch = sample_batch(jax.random.key(0), task, 1)
    row = jax.eval_shape(lambda p: evaluate(p, batch, model), params)
    history = {name: np.zeros((count, *x.shape), x.dtype) for name, x in row.items()}
    history |= {"loss": np.zeros(count, np.float32), "step": np.zeros(count, np.int32)}
    last = min(count * train.eval_every, train.steps)
    kept = {at: jax.device_get(params) for at in range(1, last + 1) if is_kept(at, train)}
    return history, kept


def check_fit(task: TaskConfig, model: ModelConfig) -> None:
    """Raises ValueError unless the model has the task's vocabulary and room for its sequences."""
    if model.n_tokens != task.n_tokens:
        raise ValueError(f"the model has {model.n_tokens} tokens, the task {task.n_tokens}")
    if task.seq_len > model.max_len:
        raise ValueError(f"the task's {task.seq_len} positions exceed max_len {model.max_len}")


def advance(
    state: parallel.TrainState,
    key: jax.Array,
    task: TaskConfig,
    model: ModelConfig,
    train: TrainConfig,
    piece: Piece,
) -> tuple[parallel.TrainState, jax.Array]:
    """The steps of a piece, problems included, and their mean loss; traceable."""
    update = parallel.make_update(
        lambda params, batch, _: loss_sums(params, batch, model), make_optimizer(train)
    )

    def body(state, key):
        state, metrics = update(state, sample_batch(key, task, train.batch_size), key)
        return state, metrics["loss"]

    # The step is the place in the stream of problems, so a resumed run draws the same.
    keys = jax.random.split(jax.random.fold_in(key, state.step - piece.offset), piece.chunk)
    state, losses = jax.lax.scan(body, state, keys[piece.offset : piece.offset + piece.num_steps])
    return state, losses.mean()


_chunk = jax.jit(advance, static_argnames=("task", "model", "train", "piece"), donate_argnums=0)


def evaluate(params: Params, batch: TwoHopBatch, model: ModelConfig) -> dict[str, Any]:
    """One row of the history, but for what only training knows; traceable."""
    logits, cache = forward_with_cache(params, batch.tokens, model)
    logits = as_wide_float(logits[:, -1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.answer)
    return {
        "eval_loss": losses.mean(),
        "accuracy": (logits.argmax(-1) == batch.answer).mean(),
        **role_probs(logits, batch)._asdict(),
        **role_attention(cache.attn_weights, batch)._asdict(),
    }


_evaluate = jax.jit(evaluate, static_argnames="model")


def append(history: dict[str, np.ndarray], row: dict[str, Any]) -> dict[str, np.ndarray]:
    """The history with one more row on its leading axis."""
    if not history:
        return {name: np.asarray(value)[None] for name, value in row.items()}
    return {name: np.concatenate([history[name], np.asarray(row[name])[None]]) for name in history}


def pieces(history: dict[str, np.ndarray], train: TrainConfig) -> list[Piece]:
    """The steps until the next evaluation, or the end, cut where parameters are kept."""
    done = int(np.max(history["step"][-1])) if history else 0
    chunk = min(train.eval_every, train.steps - done)
    inside = [offset for offset in range(1, chunk) if is_kept(done + offset, train)]
    ends = itertools.pairwise([0, *inside, chunk])
    return [Piece(chunk, start, end - start) for start, end in ends]


def is_kept(step: int, train: TrainConfig) -> bool:
    """Whether the parameters after `step` are kept."""
    return train.keep_every > 0 and step % train.keep_every == 0


def is_over(history: dict[str, np.ndarray], train: TrainConfig) -> bool:
    """Whether the steps are over or the accuracy was reached `stop_after` steps ago."""
    if not history:
        return False
    step = int(history["step"][-1])
    if step >= train.steps:
        return True
    if train.stop_accuracy is None:
        return False
    reached = np.flatnonzero(history["accuracy"] >= train.stop_accuracy)
    return bool(reached.size) and step >= history["step"][reached[0]] + train.stop_after


def warn_if_stuck(history: dict[str, np.ndarray], train: TrainConfig) -> None:
    """Warns of the failure signature of a learning rate that is too high."""
    step = int(history["step"][-1])
    if not 500 <= step < 500 + train.eval_every:
        return
    copying, loss = history["child_to_parent"][-1].max(), float(history["loss"][-1])
    if copying < 0.05 and loss > 2:
        warnings.warn(
            f"no layer copies parents ({copying:.3f}) and the loss is {loss:.2f} at step {step}: "
            f"the run will not make the transition; lower the learning rate {train.lr:g}",
            UserWarning,
            stacklevel=3,
        )
