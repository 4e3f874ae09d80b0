"""The small transformer that learns Markov chains: one head, normalisation after each part.

Source: Fan et al., arXiv 2410.07163, Appendix H, and the block of its code with its initial values:
those that PyTorch gives its layers, and positions that hardly count at the start (standard
deviation 0.02), so that what is learnt at one position holds at the others.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_POSITION_STD = 0.02
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ChainTransformer(nn.Module):
    """States `[B, T]` to logits of the next `[B, T, S]`.

    Attributes:
      num_states: S.
      width: of embeddings, attention and the layer between.
      num_layers: blocks.
      max_len: largest T.
    """

    num_states: int = 10
    width: int = 128
    num_layers: int = 4
    max_len: int = 20

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        length = tokens.shape[1]
        normal = nn.initializers.normal
        states = nn.Embed(self.num_states, self.width, embedding_init=normal(1.0))
        positions = nn.Embed(self.max_len, self.width, embedding_init=normal(_POSITION_STD))
        dense = functools.partial(
            nn.Dense, kernel_init=_uniform, bias_init=_bias_below(self.width**-0.5)
        )
        x = states(tokens) + positions(jnp.arange(length))
        norm = functools.partial(nn.LayerNorm, epsilon=1e-5)
        past = jnp.tril(jnp.ones((length, length), bool))
        for _ in range(self.num_layers):
            query, key, value = (dense(self.width, use_bias=False)(x) for _ in range(3))
            scores = query @ key.swapaxes(1, 2) / jnp.sqrt(self.width)
            mixed = nn.softmax(jnp.where(past, scores, -jnp.inf)) @ value
            x = norm()(x + mixed)
            x = norm()(x + dense(self.width)(nn.relu(dense(self.width)(x))))
        return dense(self.num_states)(x)


def _bias_below(limit: float) -> nn.initializers.Initializer:
    """Uniform in [-limit, limit]; PyTorch's limit is 1 / sqrt(inputs)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
