"""Conservative Q-learning with discrete actions: the offline RL baseline."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxlab.bandits.networks import MLP


class Transitions(NamedTuple):
    """Logged transitions, one a row.

    Attributes:
      observation, next_observation: `[n, d]`.
      action: `[n]` integers.
      reward: `[n]`.
      discount: `[n]` of the value that follows; 0 where the episode ended.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    next_observation: jax.Array
    discount: jax.Array


def cql_loss(
    q_values: jax.Array, action: jax.Array, target: jax.Array, alpha: ArrayLike
) -> jax.Array:
    """`(Q(s, a) - target)^2 / 2 + alpha (logsumexp_b Q(s, b) - Q(s, a))` of one transition.

    Args:
      q_values: `[num_actions]`.
      action: `[]` the logged one.
      target: `[]` reward plus discounted value of the next state.
      alpha: weight of the conservative term.

    Source: Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", 2020, eq. 4.
    """
    chosen = q_values[action]
    gap = jax.nn.logsumexp(q_values) - chosen
    return jnp.square(chosen - target) / 2 + alpha * gap


@functools.partial(
    jax.jit, static_argnames=("num_actions", "num_steps", "batch_size", "learning_rate", "polyak")
)
def train_cql(
    key: jax.Array,
    transitions: Transitions,
    *,
    num_actions: int,
    alpha: float | jax.Array,
    num_rows: int | jax.Array | None = None,
    num_steps: int = 5000,
    batch_size: int = 256,
    learning_rate: float = 3e-4,
    polyak: float = 0.005,
) -> Any:
    """Parameters of `MLP(num_actions)` trained to the conservative Q-function of a log.

    Args:
      key: a PRNG key.
      transitions: the log; scale its rewards to about one.
      num_actions: how many there are.
      alpha: weight of the conservative term.
      num_rows: how many transitions count, the others being padding; None counts all.
      num_steps: Adam steps on minibatches drawn with replacement.
      batch_size: transitions of each.
      learning_rate: of Adam.
      polyak: step of the target network towards the trained one.
    """
    network, optimizer = MLP(num_actions), optax.adam(learning_rate)
    init_key, train_key = jax.random.split(key)
    params = network.init(init_key, transitions.observation[0])
    num_rows = transitions.action.size if num_rows is None else num_rows

    def loss_fn(params, slow, batch):
        following = network.apply(slow, batch.next_observation).max(-1)
        target = batch.reward + batch.discount * following
        q_values = network.apply(params, batch.observation)
        return jax.vmap(cql_loss, in_axes=(0, 0, 0, None))(
            q_values, batch.action, target, alpha
        ).mean()

    def step(carry, key):
        params, slow, opt_state = carry
        rows = jax.random.randint(key, (batch_size,), 0, num_rows)
        batch = jax.tree.map(lambda x: x[rows], transitions)
        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params, slow, batch), opt_state)
        params = optax.apply_updates(params, updates)
        return (params, optax.incremental_update(params, slow, polyak), opt_state), None

    keys = jax.random.split(train_key, num_steps)
    return jax.lax.scan(step, (params, params, optimizer.init(params)), keys)[0][0]
