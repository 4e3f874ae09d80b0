"""A small softmax transformer on the same task, with or without its MLP layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class ICLTransformer(nn.Module):
    """Pre-norm causal transformer on interleaved prompts (the set-up of Garg et al., 2022).

    Attributes:
      width: of the residual stream, a multiple of `num_heads`.
      depth: number of blocks.
      num_heads: attention heads.
      use_mlp: False leaves attention and norms only.
    """

    width: int
    depth: int
    num_heads: int
    use_mlp: bool = True

    @nn.compact
    def __call__(self, sequence: jax.Array) -> jax.Array:
        """Predicts the label at every input of `[B, 2M+1, d]` (`interleave`): `[B, M+1]`."""
        length = sequence.shape[1]
        positions = self.param("positions", nn.initializers.normal(0.02), (length, self.width))
        x = nn.Dense(self.width, name="read_in")(sequence) + positions
        causal = nn.make_causal_mask(jnp.ones(sequence.shape[:2]))
        for layer in range(self.depth):
            h = nn.LayerNorm(name=f"attention_norm_{layer}")(x)
            x += nn.MultiHeadDotProductAttention(self.num_heads, name=f"attention_{layer}")(
                h, h, mask=causal
            )
            if self.use_mlp:
                h = nn.LayerNorm(name=f"mlp_norm_{layer}")(x)
                h = nn.gelu(nn.Dense(4 * self.width, name=f"mlp_in_{layer}")(h))
                x += nn.Dense(self.width, name=f"mlp_out_{layer}")(h)
        prediction = nn.Dense(1, name="read_out")(nn.LayerNorm(name="final_norm")(x))
        return prediction[:, ::2, 0]
