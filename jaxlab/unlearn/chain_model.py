"""The small transformer that learns Markov chains: one head, normalisation after each part.

Source: Fan et al., arXiv 2410.07163, Appendix H, and the block of its code, with the initial values
that PyTorch gives its layers.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


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
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        embed = functools.partial(
            nn.Embed, features=self.width, embedding_init=nn.initializers.normal(1.0)
        )
        dense = functools.partial(nn.Dense, kernel_init=uniform)
        x = embed(self.num_states)(tokens) + embed(self.max_len)(jnp.arange(length))
        past = jnp.tril(jnp.ones((length, length), bool))
        for _ in range(self.num_layers):
            query, key, value = (dense(self.width, use_bias=False)(x) for _ in range(3))
            scores = query @ key.swapaxes(1, 2) / jnp.sqrt(self.width)
            mixed = nn.softmax(jnp.where(past, scores, -jnp.inf)) @ value
            x = nn.LayerNorm()(x + mixed)
            x = nn.LayerNorm()(x + dense(self.width)(nn.relu(dense(self.width)(x))))
        return dense(self.num_states)(x)
