"""PointNeXt-S: PointNet++ with residual set abstractions and modern training."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import MLP, Head, in_farthest_order, max_pool
from jaxlab.splat.backbones.pointnet2 import group_ball


class PointNeXt(nn.Module):
    """Qian et al., "PointNeXt" (NeurIPS 2022), arXiv 2206.04670, size S.

    Attributes:
      widths: of the stages; each halves the points and has 1.5 times the radius.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    stem: int = 32
    widths: Sequence[int] = (64, 128, 256, 512)
    radius: float = 0.15
    neighbors: int = 32
    head: Sequence[int] = (512, 256)

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        x = nn.Dense(self.stem)(features)
        radius = self.radius
        for index, width in enumerate(self.widths):
            count = max(positions.shape[1] // 2, 1)
            if index == 0:
                centers, skip = in_farthest_order(positions, x, count)
            else:
                centers, skip = positions[:, :count], x[:, :count]
            near, values = group_ball(positions, x, centers, radius, self.neighbors)
            values = jnp.concatenate([near / radius, values], -1)
            values = MLP((width // 2, width), self.axis_name, bias=False, last_activation=False)(
                values, train
            )
            x = nn.relu(max_pool(values, 2) + nn.Dense(width)(skip))
            positions, radius = centers, radius * 1.5
        x = jnp.concatenate([positions, x], -1)
        x = MLP((self.widths[-1],) * 2, self.axis_name, bias=False)(x, train)
        return Head(self.head, self.num_classes, self.dropout, self.axis_name, bias=False)(
            max_pool(x, 1), train
        )
