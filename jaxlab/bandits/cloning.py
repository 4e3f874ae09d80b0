"""Behaviour cloning: imitate the actions of a logged policy."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxlab.bandits.networks import MLP


@functools.partial(
    jax.jit, static_argnames=("loss", "num_outputs", "num_steps", "batch_size", "learning_rate")
)
def clone_behavior(
    key: jax.Array,
    observations: jax.Array,
    actions: jax.Array,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    num_outputs: int,
    num_rows: int | jax.Array | None = None,
    num_steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> Any:
    """Parameters of `MLP(num_outputs)` fitted to the logged actions.

    Args:
      key: a PRNG key.
      observations: `[n, d]`.
      actions: `[n]`.
      loss: maps outputs `[B, num_outputs]` and actions `[B]` to losses `[B]`: for discrete actions
        `optax.softmax_cross_entropy_with_integer_labels`.
      num_outputs: of the network.
      num_rows: how many rows count, the others being padding; None counts all.
      num_steps: Adam steps on minibatches drawn with replacement.
      batch_size: rows of each.
      learning_rate: of Adam.

    Raises:
      ValueError: shapes that do not fit.
    """
    if observations.ndim != 2 or actions.shape != observations.shape[:1]:
        raise ValueError(
            f"observations must be [n, d] and actions [n], got {observations.shape} and "
            f"{actions.shape}"
        )
    network, optimizer = MLP(num_outputs), optax.adam(learning_rate)
    init_key, train_key = jax.random.split(key)
    params = network.init(init_key, observations[0])
    num_rows = actions.size if num_rows is None else num_rows

    def loss_fn(params, rows):
        return loss(network.apply(params, observations[rows]), actions[rows]).mean()

    def step(carry, key):
        params, opt_state = carry
        rows = jax.random.randint(key, (batch_size,), 0, num_rows)
        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params, rows), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    keys = jax.random.split(train_key, num_steps)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]
