"""PointMLP: residual MLPs on neighbourhoods with a geometric affine normalisation."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import (
    MLP,
    Head,
    in_farthest_order,
    max_pool,
    neighbor_indices,
    take,
)


class ResidualBlock(nn.Module):
    """`relu(x + BN(W2 relu(BN(W1 x))))`."""

    bottleneck: float = 1.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        inner = max(int(width * self.bottleneck), 1)
        change = MLP((inner, width), self.axis_name, bias=False, last_activation=False)
        return nn.relu(x + change(x, train))


class GeometricAffine(nn.Module):
    """Differences of neighbours `[B, M, k, d]` from centres `[B, M, d]`, at unit deviation.

    One deviation an object, over all its differences, then a factor and a shift a channel.
    """

    @nn.compact
    def __call__(self, neighbors: jax.Array, centers: jax.Array) -> jax.Array:
        alpha = self.param("alpha", nn.initializers.ones, (centers.shape[-1],))
        beta = self.param("beta", nn.initializers.zeros, (centers.shape[-1],))
        difference = neighbors - centers[:, :, None]
        spread = jnp.var(difference, (1, 2, 3), keepdims=True, ddof=1)
        # The root has no gradient at zero, where all neighbours coincide.
        deviation = jnp.where(spread > 0, jnp.sqrt(jnp.where(spread > 0, spread, 1)), 0)
        return alpha * difference / (deviation + 1e-5) + beta


class PointMLP(nn.Module):
    """Ma et al., "Rethinking Network Design and Local Geometry" (ICLR 2022), arXiv 2202.07123.

    Attributes:
      embedding: width before the stages.
      expansions: factor of the width at each stage.
      blocks: residual blocks for each neighbour, and again for each centre, by stage.
      bottleneck: inner width of a block, in widths.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    embedding: int = 64
    expansions: Sequence[int] = (2, 2, 2, 2)
    blocks: Sequence[int] = (2, 2, 2, 2)
    bottleneck: float = 1.0
    neighbors: int = 24
    head: Sequence[int] = (512, 256)

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        x = MLP((self.embedding,), self.axis_name, bias=False)(features, train)
        for index, (expansion, blocks) in enumerate(zip(self.expansions, self.blocks, strict=True)):
            count = max(positions.shape[1] // 2, 1)
            if index == 0:
                centers, middle = in_farthest_order(positions, x, count)
            else:
                centers, middle = positions[:, :count], x[:, :count]
            near = neighbor_indices(centers, positions, self.neighbors)
            group = GeometricAffine()(take(x, near), middle)
            group = jnp.concatenate([group, jnp.broadcast_to(middle[:, :, None], group.shape)], -1)
            group = MLP((x.shape[-1] * expansion,), self.axis_name, bias=False)(group, train)
            for _ in range(blocks):
                group = ResidualBlock(self.bottleneck, self.axis_name)(group, train)
            positions, x = centers, max_pool(group, 2)
            for _ in range(blocks):
                x = ResidualBlock(self.bottleneck, self.axis_name)(x, train)
        return Head(self.head, self.num_classes, self.dropout, self.axis_name)(
            max_pool(x, 1), train
        )
