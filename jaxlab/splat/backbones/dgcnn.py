"""DGCNN: convolutions over the edges of neighbour graphs that follow the features."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import MLP, Head, Norm, max_pool, neighbor_indices, take

_LEAK = functools.partial(nn.leaky_relu, negative_slope=0.2)


class EdgeConv(nn.Module):
    """`max_j act(BN(W [f_j - f_i, f_i]))` over neighbours `indices` `[B, N, k]`.

    Factored as `W1 f_j + (W2 - W1) f_i`: two products a point in place of one an edge.
    """

    width: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, indices: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (2 * channels, self.width), jnp.float32
        )
        to_neighbor, to_center = kernel[:channels], kernel[channels:]
        edges = take(x @ to_neighbor, indices) + (x @ (to_center - to_neighbor))[:, :, None]
        return max_pool(_LEAK(Norm(self.axis_name)(edges, train)), 2)


class DGCNN(nn.Module):
    """Wang et al., "Dynamic Graph CNN" (TOG 2019), arXiv 1801.07829.

    The first graph is over the positions: over raw features it would mix units.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    widths: Sequence[int] = (64, 64, 128, 256)
    embedding: int = 1024
    head: Sequence[int] = (512, 256)
    neighbors: int = 20

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        x, space, levels = features, positions, []
        for width in self.widths:
            graph = neighbor_indices(space, space, self.neighbors)
            x = space = EdgeConv(width, self.axis_name)(x, graph, train)
            levels.append(x)
        x = MLP((self.embedding,), self.axis_name, bias=False, activation=_LEAK)(
            jnp.concatenate(levels, -1), train
        )
        x = jnp.concatenate([max_pool(x, 1), x.mean(1)], -1)
        biases = (False, *[True] * (len(self.head) - 1))
        return Head(
            self.head,
            self.num_classes,
            self.dropout,
            self.axis_name,
            bias=biases,
            activation=_LEAK,
        )(x, train)
