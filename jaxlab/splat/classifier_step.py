"""One optimizer step of a classifier."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """What training a classifier carries.

    Attributes:
      params: parameters of the network.
      batch_stats: its running statistics.
      opt_state: state of the optax transformation.
      step: `()` int32, optimizer steps taken.
    """

    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    step: jax.Array


def init_train_state(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    positions: jax.Array,
    features: jax.Array,
) -> TrainState:
    """The state before the first step.

    Args:
      key: of the parameters.
      model: from `make_classifier`.
      tx: optax transformation.
      positions, features: `[B, N, 3]` and `[B, N, C]`; their shapes alone matter.
    """
    variables = jax.jit(lambda key, p, f: model.init({"params": key, "dropout": key}, p, f))(
        key, positions, features
    )
    params = variables["params"]
    return TrainState(
        params, variables.get("batch_stats", {}), tx.init(params), jnp.zeros((), jnp.int32)
    )


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
    label_smoothing: float = 0.0,
    regularization: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Builds `step(state, key, positions, features, labels) -> (state, loss)`.

    Args:
      model: from `make_classifier`, with the same `axis_name`.
      tx: optax transformation.
      axis_name: mapped axis over which gradients, loss and statistics are averaged: map the step
        over devices with `jax.pmap`, equally many rows on each, and the same `key` on all, since
        random numbers of a row follow from its number in the global batch.
      label_smoothing: share of the target that is spread over all classes.
      regularization: weight, as a function of the step, of what the network sows in
        `regularizers`; None leaves it out.

    Returns:
      A pure function; jitted where there is no `axis_name`.
    """
    collections = ["batch_stats"] + (["regularizers"] if regularization else [])

    def step(state, key, positions, features, labels):
        def loss_of(params):
            logits, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                positions,
                features,
                train=True,
                mutable=collections,
                rngs={"dropout": key},
            )
            targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
            loss = optax.softmax_cross_entropy(logits, targets).mean()
            if regularization:
                sown = sum(map(jnp.sum, jax.tree.leaves(changed.get("regularizers", {}))), 0.0)
                loss += regularization(state.step) * sown
            return loss, changed.get("batch_stats", {})

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        if axis_name is not None:
            grads, loss, stats = jax.lax.pmean((grads, loss, stats), axis_name)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, stats, opt_state, state.step + 1), loss

    return step if axis_name is not None else jax.jit(step)
