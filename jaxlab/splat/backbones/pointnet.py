"""PointNet: one network for every point, and a maximum over all of them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import MLP, Head


class TNet(nn.Module):
    """Predicts a square matrix `[B, size, size]` from an object's points, the identity plus."""

    size: int
    widths: Sequence[int]
    hidden: Sequence[int]
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = MLP(self.widths, self.axis_name, pooled=True)(x, train)
        x = MLP(self.hidden, self.axis_name)(x, train)
        matrix = nn.Dense(self.size**2)(x).reshape(-1, self.size, self.size)
        return matrix + jnp.eye(self.size, dtype=x.dtype)


class PointNet(nn.Module):
    """Qi et al., "PointNet" (CVPR 2017), arXiv 1612.00593.

    The input transform sees all channels and turns the positions only. With the collection
    `regularizers` mutable, the departure of the feature transform from orthogonality is sown there.

    Attributes:
      widths: of the layers for each point; the feature transform follows the first.
      transform: widths of the two transform networks, for each point and after the maximum; empty
        for a network without transforms.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    widths: Sequence[int] = (64, 128, 1024)
    head: Sequence[int] = (512, 256)
    transform: tuple[Sequence[int], Sequence[int]] | None = ((64, 128, 1024), (512, 256))

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`.

        With `positions_in_features` the first three channels are the positions.
        """
        x = features
        if self.transform and self.positions_in_features:
            turn = TNet(3, *self.transform, self.axis_name)(x, train)
            x = jnp.concatenate([x[..., :3] @ turn, x[..., 3:]], -1)
        x = MLP(self.widths[:1], self.axis_name)(x, train)
        if self.transform:
            turn = TNet(self.widths[0], *self.transform, self.axis_name)(x, train)
            if not self.is_initializing():
                gap = jnp.eye(self.widths[0]) - turn @ jnp.swapaxes(turn, 1, 2)
                self.sow("regularizers", "orthogonality", jnp.mean(_frobenius(gap)))
            x = x @ turn
        x = MLP(self.widths[1:], self.axis_name, last_activation=False, pooled=True)(x, train)
        return Head(self.head, self.num_classes, self.dropout, self.axis_name, dropped=1)(x, train)


def _frobenius(matrices: jax.Array) -> jax.Array:
    square = jnp.sum(matrices**2, (1, 2))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
