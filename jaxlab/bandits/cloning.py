"""Behaviour cloning: imitate the actions of a logged policy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlab.bandits.networks import MLP


@functools.partial(
    jax.jit, static_argnames=("num_actions", "num_steps", "batch_size", "learning_rate")
)
def clone_behavior(
    key: jax.Array,
    observations: jax.Array,
    actions: jax.Array,
    *,
    num_actions: int,
    weights: jax.Array | None = None,
    num_steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> Any:
    """Parameters of `MLP(num_actions)` whose logits imitate the logged actions.

    Args:
      key: a PRNG key.
      observations: `[n, d]`.
      actions: `[n]` integers in `[0, num_actions)`.
      num_actions: how many there are.
      weights: `[n]` how often a row is drawn, 0 for padding; None draws all alike.
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
    network, optimizer = MLP(num_actions), optax.adam(learning_rate)
    init_key, train_key = jax.random.split(key)
    params = network.init(init_key, observations[0])
    log_weights = jnp.zeros(actions.shape) if weights is None else jnp.log(weights)

    def loss_fn(params, rows):
        logits = network.apply(params, observations[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, actions[rows]).mean()

    def step(carry, key):
        params, opt_state = carry
        rows = jax.random.categorical(key, log_weights, shape=(batch_size,))
        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params, rows), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    keys = jax.random.split(train_key, num_steps)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]
