"""DeLA: decoupled local aggregation, spatial encoding once and cheap feature propagation often."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import (
    DropPath,
    Head,
    Norm,
    in_farthest_order,
    max_pool,
    neighbor_indices,
    row_keys,
    take,
)

_TARGET_SCALES = (40 / 2.2, 40 / 4.4, 40 / 8.8)


class Propagation(nn.Module):
    """`BN(max_j (W x)_j - (W x)_i)` over neighbours, the local feature propagation (LFP)."""

    width: int
    scale: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, indices, centers: int, train: bool) -> jax.Array:
        x = nn.Dense(self.width, use_bias=False)(x)
        return Norm(self.axis_name, self.scale)(
            max_pool(take(x, indices), 2) - x[:, :centers], train
        )


class ChannelMLP(nn.Module):
    """`BN(W2 gelu(W1 x))` with twice the width inside."""

    scale: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        inner = nn.gelu(nn.Dense(2 * width)(x))
        return Norm(self.axis_name, self.scale)(nn.Dense(width, use_bias=False)(inner), train)


class SpatialEncoding(nn.Module):
    """A PointNet over each neighbourhood: what its points' places (and features) say."""

    width: int
    hidden: Sequence[int]
    scale: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, group: jax.Array, train: bool) -> jax.Array:
        for width in self.hidden:
            group = Norm(self.axis_name)(nn.gelu(nn.Dense(width)(group)), train)
        x = nn.Dense(self.width, use_bias=False)(max_pool(group, 2))
        return Norm(self.axis_name, self.scale)(x, train)


class Regressor(nn.Module):
    """Differences of features to relative positions `[..., 3]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3)(nn.gelu(nn.Dense(32)(x)))


class DeLA(nn.Module):
    """Chen et al., "Decoupled Local Aggregation for Point Cloud Learning", arXiv 2308.16532.

    In training, with the collection `regularizers` mutable, each stage sows the error of the
    relative position of one random neighbour, regressed from the difference of features.

    Attributes:
      points: of each stage; a later stage is a prefix of the farthest-point order.
      widths: of the stages.
      depth: propagations in a block.
      encoding: hidden widths of the spatial encoding.
      final: width before the global maximum.
      drop_path: rate of the last branch; earlier ones have less.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    points: Sequence[int] = (1024, 256, 64)
    widths: Sequence[int] = (96, 192, 384)
    depth: int = 4
    neighbors: int = 24
    encoding: Sequence[int] = (24, 48)
    final: int = 2048
    head: Sequence[int] = (512, 256)
    drop_path: float = 0.1

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        counts = [min(count, positions.shape[1]) for count in self.points]
        positions, features = in_farthest_order(positions, features, counts[0])
        x: Any = None
        near: Any = None
        branches, branch = len(self.widths) * (1 + self.depth + self.depth // 2), 0
        for stage, (count, width) in enumerate(zip(counts, self.widths, strict=True)):
            if stage > 0:  # the coarser points gather over the finer neighbourhoods
                near = near[:, :count]
                skip = Norm(self.axis_name, 0.3)(
                    nn.Dense(width, use_bias=False)(x[:, :count]), train
                )
                x = skip + Propagation(width, 0.3, self.axis_name)(x, near, count, train)
            positions = positions[:, :count]
            near = neighbor_indices(positions, positions, self.neighbors)
            group = take(positions, near) - positions[:, :, None]
            if stage == 0:
                group = jnp.concatenate([group, take(features, near)], -1)
            encoded = SpatialEncoding(
                width, self.encoding, 0.8 if stage == 0 else 0.2, self.axis_name
            )(group, train)
            x = encoded if x is None else x + encoded
            for index in range(-1, self.depth):
                changes: list[nn.Module] = (
                    [] if index < 0 else [Propagation(width, 0.0, self.axis_name)]
                )
                if index < 0 or index % 2:
                    changes.append(ChannelMLP(0.2 if index < 0 else 0.0, self.axis_name))
                for change in changes:
                    rate = self.drop_path * branch / max(branches - 1, 1)
                    local = (near, count) if isinstance(change, Propagation) else ()
                    x = x + DropPath(rate, self.axis_name)(change(x, *local, train), train)
                    branch += 1
            self._regress(x, positions, near, stage, train)
        x = nn.gelu(nn.Dense(self.final)(Norm(self.axis_name)(x, train)))
        return Head(self.head, self.num_classes, self.dropout, self.axis_name, activation=nn.gelu)(
            max_pool(x, 1), train
        )

    def _regress(self, x, positions, near, stage: int, train: bool) -> None:
        """Sows the squared error of a random neighbour's relative position."""
        network = Regressor(name=f"regressor_{stage}")
        if self.is_initializing():
            network(x)
        elif train and self.is_mutable_collection("regularizers"):
            keys = row_keys(self, x.shape[0])
            pick = jax.vmap(lambda k: jax.random.randint(k, near.shape[1:2], 0, near.shape[2]))(
                keys
            )
            chosen = jnp.take_along_axis(near, pick[..., None], 2)[..., 0]
            target = (take(positions, chosen) - positions) * _TARGET_SCALES[stage]
            error = jnp.mean((network(take(x, chosen) - x) - target) ** 2)
            self.sow("regularizers", "relative_position", error)
