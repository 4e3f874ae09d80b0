"""PointNet++: PointNets on balls of growing radius."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import MLP, Head, in_farthest_order, max_pool, take
from jaxlab.splat.neighbors import ball_query


class Level(NamedTuple):
    """One set abstraction: centres, radius, neighbours, widths."""

    centers: int
    radius: float
    neighbors: int
    widths: tuple[int, ...]


def group_ball(
    positions: jax.Array, features: jax.Array, centers: jax.Array, radius: float, count: int
) -> tuple[jax.Array, jax.Array]:
    """Relative positions `[B, M, k, 3]` and features `[B, M, k, C]` of each ball."""
    count = min(count, positions.shape[1])
    points, centres = jax.lax.stop_gradient((positions, centers))
    inside = jax.vmap(lambda q, p: ball_query(q, p, radius, count).indices)(centres, points)
    return take(positions, inside) - centers[:, :, None], take(features, inside)


class PointNet2(nn.Module):
    """Qi et al., "PointNet++" (NeurIPS 2017), arXiv 1706.02413, single-scale grouping."""

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    levels: Sequence[Level] = (
        Level(512, 0.2, 32, (64, 64, 128)),
        Level(128, 0.4, 64, (128, 128, 256)),
    )
    last: Sequence[int] = (256, 512, 1024)
    head: Sequence[int] = (512, 256)

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        x = features
        for index, level in enumerate(self.levels):
            count = min(level.centers, positions.shape[1])
            if index == 0:
                centers, _ = in_farthest_order(positions, x, count)
            else:
                centers = positions[:, :count]
            near, values = group_ball(positions, x, centers, level.radius, level.neighbors)
            x = MLP(level.widths, self.axis_name)(jnp.concatenate([near, values], -1), train)
            positions, x = centers, max_pool(x, 2)
        x = MLP(self.last, self.axis_name)(jnp.concatenate([positions, x], -1), train)
        return Head(self.head, self.num_classes, self.dropout, self.axis_name)(
            max_pool(x, 1), train
        )
