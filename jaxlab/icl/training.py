"""Training a block: on fresh prompts, or on the exact risk without any sampling noise."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import check_at_least
from jaxlab.icl.linear_block import LSAParams, LTBParams
from jaxlab.icl.prior import TaskPrior
from jaxlab.icl.prompts import Prompts, check_num_context, covariance_roots, sample_with_roots
from jaxlab.icl.regression_tasks import sample_task_prompts
from jaxlab.icl.risk import icl_risk


class TrainResult(NamedTuple):
    """Trained parameters and the loss `[T]` before each step."""

    params: Any
    loss: jax.Array


@functools.partial(
    jax.jit, static_argnames=("apply_fn", "num_context", "num_steps", "batch_size", "optimizer")
)
def train(
    key: jax.Array,
    params: Any,
    apply_fn: Callable[[Any, jax.Array], jax.Array],
    prior: TaskPrior,
    num_context: int,
    *,
    num_steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
) -> TrainResult:
    """Minimises the squared error on fresh prompts, one compiled program for the whole run.

    Args:
      key: for the prompts.
      params: pytree of initial parameters.
      apply_fn: `(params, tokens [B, d+1, M+1]) -> [B]`; or `[B, M+1]`, one prediction for the
        label of every example given those before it and, last, of the query.
      prior: the task distribution.
      num_context: M.
      num_steps, batch_size: steps, and prompts a step.
      optimizer: optax transformation.

    Raises:
      ValueError: `num_context`, `batch_size` or `num_steps` below 1.
    """
    roots = covariance_roots(prior)

    def loss(params, key):
        prompts = sample_with_roots(key, prior, roots, num_context, batch_size)
        return squared_errors(apply_fn(params, prompts.tokens), prompts).mean()

    return _descend(loss, params, jax.random.split(key, _checked(num_steps)), optimizer)


@functools.partial(
    jax.jit, static_argnames=("apply_fn", "num_context", "num_steps", "batch_size", "optimizer")
)
def train_on_tasks(
    key: jax.Array,
    params: Any,
    apply_fn: Callable[[Any, jax.Array], jax.Array],
    X: jax.Array,
    y: jax.Array,
    num_context: int,
    *,
    num_steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
) -> TrainResult:
    """`train` on prompts from a collection of tasks, `X [tasks, N, d]` and `y [tasks, N]`."""

    def loss(params, key):
        prompts = sample_task_prompts(key, X, y, num_context, batch_size)
        return squared_errors(apply_fn(params, prompts.tokens), prompts).mean()

    return _descend(loss, params, jax.random.split(key, _checked(num_steps)), optimizer)


@functools.partial(jax.jit, static_argnames=("num_context", "num_steps", "optimizer"))
def fit_population(
    params: LSAParams | LTBParams,
    prior: TaskPrior,
    num_context: int,
    *,
    num_steps: int,
    optimizer: optax.GradientTransformation,
) -> TrainResult:
    """Minimises the exact risk, a polynomial in the weights; `loss[t]` is it before step t.

    Raises:
      ValueError: `num_context` or `num_steps` below 1.
    """
    check_num_context(num_context)
    return _descend(
        lambda params, _: icl_risk(params, prior, num_context),
        params,
        jnp.arange(_checked(num_steps)),
        optimizer,
    )


def squared_errors(prediction: jax.Array, prompts: Prompts) -> jax.Array:
    """Squared errors `[B]` of the query, or `[B, M+1]` where every label was predicted."""
    if prediction.ndim == 1:
        return jnp.square(prediction - prompts.target)
    labels = prompts.tokens[:, -1, :].at[:, -1].set(prompts.target)
    return jnp.square(prediction - labels)


def _descend(loss, params, inputs, optimizer: optax.GradientTransformation) -> TrainResult:
    def step(carry, given):
        params, opt_state = carry
        value, grads = jax.value_and_grad(loss)(params, given)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), inputs)
    return TrainResult(params, losses)


def _checked(num_steps: int) -> int:
    check_at_least("num_steps", num_steps, 1)
    return num_steps
