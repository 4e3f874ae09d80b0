"""Training: the step, whole runs of unlearning and relearning in one scan, the schedule.

Axes: N rows of a data set, B rows of a batch, T tokens, S steps.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxlab.checks import check_at_least
from jaxlab.unlearn.log_probs import IGNORE_INDEX, ChunkedHead, summed
from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.objective import ApplyFn, Objective, make_objective, output_logprobs
from jaxlab.unlearn.types import LMBatch, UnlearnBatch, UnlearnResult, UnlearnState

Step = Callable[[UnlearnState, Any, UnlearnBatch], tuple[UnlearnState, dict[str, jax.Array]]]

_NUMBERS = ("forget_coeff", "retain_coeff", "beta", "gamma")


def init_state(params: Any, optimizer: optax.GradientTransformation) -> UnlearnState:
    """The state before the first step, with a fresh optimizer."""
    return UnlearnState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
) -> Step:
    """Builds `step(state, ref_params, batch) -> (state, metrics)`, not compiled.

    Args:
      objective: from `make_objective`, built with the same `axis_name`.
      optimizer: optax transformation.
      axis_name: a mapped axis over which gradients, loss and aux are added.

    Returns:
      The step. `metrics` are the objective's aux, `loss`, and `grad_norm` before any clipping.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state: UnlearnState, ref_params: Any, batch: UnlearnBatch):
        (loss, aux), grads = gradient(state.params, ref_params, batch)
        if axis_name is not None:
            loss, aux, grads = jax.lax.psum((loss, aux, grads), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**aux, "loss": loss, "grad_norm": optax.tree.norm(grads)}
        return UnlearnState(params, opt_state, state.step + 1), metrics

    return step


def reference_logprobs(
    apply_fn: ApplyFn,
    params: Any,
    batch: LMBatch,
    *,
    batch_size: int = 64,
    head: ChunkedHead | None = None,
) -> jax.Array:
    """Log-probabilities `[N]` of the answers of all rows, nats, without gradient.

    Computed once before unlearning, they spare a second model in memory and its forward pass.

    Args:
      apply_fn, params: the reference model.
      batch: `[N, T]` rows.
      batch_size: rows per forward pass.
      head: as in `make_objective`.

    Raises:
      ValueError: batch_size < 1.
    """
    check_at_least("batch_size", batch_size, 1)
    count = batch.tokens.shape[0]
    batch_size = max(min(batch_size, count), 1)
    if head is not None and head.scored is None and count:
        order = np.resize(np.arange(count), (-(-count // batch_size), batch_size))
        head = head.fitted(batch.labels, order)
    return _reference_logprobs(apply_fn, params, _on_device(batch), batch_size, head)


def unlearn(
    key: jax.Array,
    apply_fn: ApplyFn,
    params: Any,
    forget: LMBatch,
    *,
    cfg: UnlearnConfig,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    batch_size: int,
    retain: LMBatch | None = None,
    idk: LMBatch | None = None,
    ref_params: Any = None,
    num_snapshots: int | None = None,
    head: ChunkedHead | None = None,
) -> UnlearnResult:
    """Unlearns the forget rows: one compiled scan over all steps, data on the device throughout.

    Args:
      key: decides on the order; the same key gives the same bits.
      apply_fn: `(params, tokens) -> logits`; one function object, so that programs are reused.
      params: where to start; not donated.
      forget: `[N, T]`; every epoch visits all rows in a new order, and epochs follow each other
        without a gap.
      cfg: the method. Its numbers are arguments of the program, so that a sweep over them is
        compiled once.
      optimizer: optax transformation, started afresh.
      num_steps: S, in optimizer steps.
      batch_size: B rows of `forget`, and as many of `retain`.
      retain: rows to keep, drawn uniformly with replacement.
      idk: refusals, row i belonging to row i of `forget`.
      ref_params: the reference model; `params` by default. Its log-probabilities of forget and
        idk rows are computed once.
      num_snapshots: None, or how many models along the way `params` of the result hold, stacked.
      head: as in `make_objective`; fitted to the rows, logits are made of scored positions alone.

    Raises:
      ValueError: an empty forget set, batch_size > N, num_steps < 1, idk rows that do not match
        those of `forget`, or refusals or retain rows that the method needs and that are missing.
    """
    count = forget.tokens.shape[0]
    _check_sizes("forget", count, num_steps, batch_size, num_snapshots)
    if cfg.retain != "none" and retain is None:
        raise ValueError(f"retain={cfg.retain!r} needs retain rows; give `retain`")
    if cfg.needs_idk and idk is None:
        raise ValueError(f"method={cfg.method!r} needs refusals; give `idk`")
    if idk is not None and idk.tokens.shape[0] != count:
        raise ValueError(
            f"idk has {idk.tokens.shape[0]} rows and forget {count}; pair them row by row"
        )
    forget_key, retain_key = jax.random.split(key)
    order = epoch_order(forget_key, count, num_steps, batch_size)
    kept = None
    if cfg.retain == "none" or retain is None:
        retain = None
    else:
        kept = jax.random.randint(
            retain_key, (num_steps, batch_size), 0, retain.tokens.shape[0], jnp.int32
        )
    if not cfg.needs_idk:
        idk = None
    ref_params = params if ref_params is None else ref_params
    cached = UnlearnBatch(_on_device(forget), _on_device(retain), _on_device(idk))
    if cfg.needs_reference:
        cached = cached._replace(
            ref_forget_logp=reference_logprobs(apply_fn, ref_params, forget, head=head),
            ref_idk_logp=None
            if idk is None
            else reference_logprobs(apply_fn, ref_params, idk, head=head),
        )
    if head is not None:
        drawn = [(forget, order), (retain, kept), (idk, order)]
        fits = [head.fitted(x.labels, i) for x, i in drawn if x is not None and i is not None]
        head = max(fits, key=lambda fit: fit.scored or 0)
    ones: dict[str, Any] = dict.fromkeys(_NUMBERS, 1.0)
    return _unlearn(
        apply_fn,
        dataclasses.replace(cfg, **ones),
        optimizer,
        {name: 1.0 * getattr(cfg, name) for name in _NUMBERS},
        params,
        ref_params if cfg.retain == "kl" else None,
        cached,
        order,
        kept,
        num_snapshots,
        head,
    )


def relearn(
    key: jax.Array,
    apply_fn: ApplyFn,
    params: Any,
    data: LMBatch,
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    batch_size: int,
    num_snapshots: int | None = None,
    head: ChunkedHead | None = None,
) -> UnlearnResult:
    """Fine-tunes on rows by the mean negative log-likelihood of their scored tokens.

    The relearning attack, and plain fine-tuning. In the history, `forget_logp` is the mean
    log-probability of the rows' answers, `retain_loss` the likelihood term, `forget_loss` 0.

    Args:
      key, apply_fn, params, optimizer, num_steps, batch_size, num_snapshots, head: as in
        `unlearn`.
      data: `[N, T]`.

    Raises:
      ValueError: no rows, batch_size > N, num_steps < 1, or snapshots that do not divide the steps.
    """
    count = data.tokens.shape[0]
    _check_sizes("data", count, num_steps, batch_size, num_snapshots)
    order = epoch_order(key, count, num_steps, batch_size)
    head = None if head is None else head.fitted(data.labels, order)
    return _relearn(apply_fn, optimizer, params, _on_device(data), order, num_snapshots, head)


def warmup_linear(peak: float, steps_per_epoch: int, num_epochs: int) -> optax.Schedule:
    """Learning rate: from 0 to `peak` over the first epoch, then linearly to 0 at the last step.

    Raises:
      ValueError: fewer than one step an epoch or one epoch.
    """
    if steps_per_epoch < 1 or num_epochs < 1:
        raise ValueError(
            f"steps_per_epoch and num_epochs must be >= 1, got {steps_per_epoch}, {num_epochs}"
        )
    total = steps_per_epoch * num_epochs
    rise = optax.linear_schedule(0.0, peak, steps_per_epoch)
    fall = optax.linear_schedule(peak, 0.0, max(total - steps_per_epoch, 1))
    return optax.join_schedules([rise, fall], [steps_per_epoch])


def epoch_order(key: jax.Array, count: int, num_steps: int, batch_size: int) -> jax.Array:
    """Row numbers `[num_steps, batch_size]` int32: permutations of `count` rows, end to end."""
    epochs = -(-num_steps * batch_size // count)
    keys = jax.random.split(key, epochs)
    orders = jax.vmap(lambda k: jax.random.permutation(k, count))(keys)
    return orders.reshape(-1)[: num_steps * batch_size].reshape(num_steps, batch_size)


def _check_sizes(
    name: str, count: int, num_steps: int, batch_size: int, num_snapshots: int | None
) -> None:
    if count < 1:
        raise ValueError(f"{name} is empty; give at least one row")
    if not 1 <= batch_size <= count:
        raise ValueError(f"batch_size must lie in 1..{count}, the rows of {name}, got {batch_size}")
    check_at_least("num_steps", num_steps, 1)
    if num_snapshots is not None and (num_snapshots < 1 or num_steps % num_snapshots):
        raise ValueError(
            f"num_snapshots must divide the {num_steps} steps evenly, got {num_snapshots}"
        )


def _on_device(rows: LMBatch | None) -> Any:
    return None if rows is None else LMBatch(*map(jnp.asarray, rows))


def _take(rows: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[index], rows)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _reference_logprobs(
    apply_fn: ApplyFn, params: Any, batch: LMBatch, batch_size: int, head: ChunkedHead | None
) -> jax.Array:
    count = batch.tokens.shape[0]
    padding = -count % batch_size

    def batches(rows: ArrayLike, fill: int) -> jax.Array:
        rows = jnp.pad(rows, ((0, padding), (0, 0)), constant_values=fill)
        return rows.reshape(-1, batch_size, rows.shape[1])

    def score(rows: LMBatch) -> jax.Array:
        outputs = apply_fn(params, rows.tokens)
        return summed(output_logprobs(head, params, outputs, rows.labels)).logp

    rows = LMBatch(batches(batch.tokens, 0), batches(batch.labels, IGNORE_INDEX))
    return jax.lax.map(score, rows).reshape(-1)[:count]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 9, 10))
def _unlearn(
    apply_fn, form, optimizer, numbers, params, ref_params, data, order, kept, num_snapshots, head
):
    objective = make_objective(apply_fn, dataclasses.replace(form, **numbers), head=head)

    def batch_at(rows):
        forget_rows, retain_rows = rows
        paired = _take(data._replace(retain=None), forget_rows)
        return paired._replace(retain=_take(data.retain, retain_rows))

    step = make_step(objective, optimizer)
    return _scan(step, params, optimizer, ref_params, batch_at, (order, kept), num_snapshots)


@functools.partial(jax.jit, static_argnums=(0, 1, 5, 6))
def _relearn(apply_fn, optimizer, params, data, order, num_snapshots, head):
    def objective(params, _, batch):
        outputs = apply_fn(params, batch.tokens)
        answers = summed(output_logprobs(head, params, outputs, batch.labels))
        loss = -answers.logp.sum() / jnp.maximum(answers.length.sum(), 1)
        return loss, {
            "forget_loss": jnp.zeros_like(loss),
            "retain_loss": loss,
            "forget_logp": answers.logp.mean(),
        }

    step = make_step(objective, optimizer)
    batch_at = functools.partial(_take, data)
    return _scan(step, params, optimizer, None, batch_at, order, num_snapshots)


def _scan(step, params, optimizer, ref_params, batch_at, order, num_snapshots) -> UnlearnResult:
    """All steps; with snapshots, a scan over stretches that each end in one."""

    def body(state, rows):
        return step(state, ref_params, batch_at(rows))

    state = init_state(params, optimizer)
    if num_snapshots is None:
        state, history = jax.lax.scan(body, state, order)
        return UnlearnResult(state.params, history)

    def stretch(state, order):
        state, history = jax.lax.scan(body, state, order)
        return state, UnlearnResult(state.params, history)

    order = jax.tree.map(lambda x: x.reshape(num_snapshots, -1, *x.shape[1:]), order)
    _, path = jax.lax.scan(stretch, state, order)
    return path._replace(history=jax.tree.map(jnp.ravel, path.history))
