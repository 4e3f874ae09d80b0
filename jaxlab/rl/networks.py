"""The actor and the stacked critics: ReLU perceptrons as flax modules.

Their parameters are plain nested dicts, without flax's outer level; those of the C critics have a
leading axis [C] on every leaf.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxlab.rl.transition import Transition

Params = dict[str, Any]

_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut at -2 and 2


class GaussianActor(nn.Module):
    """obs `[B, O]` to the mean and log standard deviation `[B, A]` before squashing."""

    act_dim: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, obs):
        x = trunk(obs, self.hidden)
        return nn.Dense(self.act_dim, name="mean")(x), nn.Dense(self.act_dim, name="log_std")(x)


class DeterministicActor(nn.Module):
    """obs `[B, O]` to an action `[B, A]` in (-1, 1)."""

    act_dim: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, obs):
        return jnp.tanh(nn.Dense(self.act_dim, name="mean")(trunk(obs, self.hidden)))


class Critic(nn.Module):
    """obs `[B, O]` and action `[B, A]` to values `[B]`."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, obs, action):
        x = trunk(jnp.concatenate([obs, action], axis=-1), self.hidden)
        return nn.Dense(1, name="q")(x)[..., 0]


class StateValue(nn.Module):
    """obs `[..., O]` to values `[...]`."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(1, name="v")(trunk(obs, self.hidden))[..., 0]


def trunk(x, hidden: Sequence[int]):
    """Dense layers `Dense_0`, `Dense_1`, ... with ReLU, inside a module's `__call__`."""
    for i, width in enumerate(hidden):
        x = nn.relu(nn.Dense(width, name=f"Dense_{i}")(x))
    return x


def init_network(key: jax.Array, network: nn.Module, *inputs: int) -> Params:
    """Fresh parameters: LeCun's truncated normal kernels and biases of zero, as flax's own.

    One draw makes all kernels: every draw of its own costs a fifth of a second to compile.

    Args:
      network: a module of `trunk` and dense heads.
      *inputs: width of each of its inputs.
    """
    empty = [jax.ShapeDtypeStruct((1, width), jnp.float32) for width in inputs]
    leaves, tree = jax.tree.flatten(jax.eval_shape(network.init, key, *empty)["params"])
    kernels = [leaf for leaf in leaves if len(leaf.shape) == 2]
    ends = np.cumsum([kernel.size for kernel in kernels])
    normal = jax.random.truncated_normal(key, -2, 2, (int(ends[-1]),)) / _TRUNCATED_STD
    drawn = iter(jnp.split(normal, ends[:-1]))

    def fill(leaf):
        if len(leaf.shape) < 2:
            return jnp.zeros(leaf.shape)
        return next(drawn).reshape(leaf.shape) / math.sqrt(leaf.shape[0])

    return jax.tree.unflatten(tree, [fill(leaf) for leaf in leaves])


def init_critics(key: jax.Array, config) -> Params:
    """Fresh parameters of `config.n_critics` critics, each with a key of its own."""
    network = Critic(config.hidden)
    return jax.vmap(lambda key: init_network(key, network, config.obs_dim, config.act_dim))(
        jax.random.split(key, config.n_critics)
    )


def critic_apply(params: Params, obs: jax.Array, action: jax.Array, config) -> jax.Array:
    """Values `[C, B]` of obs `[B, O]` and action `[B, A]` under the stacked critics."""
    return jax.vmap(lambda p: Critic(config.hidden).apply({"params": p}, obs, action))(params)


def critic_loss(
    critic: Params, targets: jax.Array, batch: Transition, config
) -> tuple[jax.Array, jax.Array]:
    """Half the squared error, summed over critics, averaged over rows; and the values `[C, B]`."""
    q = critic_apply(critic, batch.obs, batch.action, config)
    return jnp.sum(jnp.mean(jnp.square(q - targets), axis=1)) / 2, q


def polyak_update(params: Params, target: Params, tau: float) -> Params:
    """(1 - tau) target + tau params."""
    return jax.tree.map(lambda new, old: (1 - tau) * old + tau * new, params, target)
