"""DGCNN: convolutions over the edges of neighbour graphs that follow the features."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.layers import MLP, Head, max_pool, neighbor_indices, take
from jaxlab.splat.backbones.pooled import FoldedNorm

_DENSE_ADJACENCY = 1024  # points
_LEAK = functools.partial(nn.leaky_relu, negative_slope=0.2)


class EdgeConv(nn.Module):
    """`max_j act(BN(W [f_j - f_i, f_i]))` over neighbours `indices` `[B, N, k]`.

    Factored as `W1 f_j + (W2 - W1) f_i`: two products a point in place of one an edge. Moments of
    all edges follow from those of both parts and from sums over neighbours, so that normalisation
    is known before the maximum, which is that of `W1 f_j` alone, or the minimum where the factor is
    negative: no array of edges has a gradient.
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
        neighbors, centers = x @ to_neighbor, x @ (to_center - to_neighbor)
        moments = edge_moments(neighbors, centers, indices, self.axis_name) if train else None
        factor, offset = FoldedNorm(name="Norm_0")(self.width, moments)
        sign = jnp.where(factor < 0, -1, 1)
        best = largest_neighbors(neighbors * sign, indices) * sign
        return _LEAK((best + centers) * factor + offset)


def edge_moments(
    neighbors: jax.Array, centers: jax.Array, indices: jax.Array, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance `[D]` of `neighbors[j] + centers[i]` over all edges from i to j.

    Args:
      neighbors, centers: `[B, N, D]`.
      indices: `[B, N, k]`.
      axis_name: mapped axis over which objects are spread, too.
    """

    def average(value):
        value = value.mean((0, 1))
        return value if axis_name is None else jax.lax.pmean(value, axis_name)

    k = indices.shape[2]
    # About their own means, so that squares do not cancel.
    means = average(neighbors), average(centers)
    neighbors, centers = neighbors - means[0], centers - means[1]
    degree = jax.vmap(lambda i: jnp.zeros(i.shape[0]).at[i.ravel()].add(1.0))(indices)[..., None]
    around = neighbor_sums(neighbors, indices)
    mean = average(degree * neighbors) / k + average(centers)
    square = average(degree * neighbors**2 + 2 * centers * around) / k + average(centers**2)
    return mean + means[0] + means[1], jnp.maximum(square - mean**2, 0)


def neighbor_sums(x: jax.Array, indices: jax.Array) -> jax.Array:
    """`sum_k x[b, indices[b, n, k]]`, `[B, N, D]`; of few points by their adjacency."""
    if x.shape[1] > _DENSE_ADJACENCY:
        return take(x, indices).sum(2)
    adjacency = (indices[..., None] == jnp.arange(x.shape[1])).sum(2)
    return adjacency.astype(x.dtype) @ x


def largest_neighbors(x: jax.Array, indices: jax.Array) -> jax.Array:
    """`max_k x[b, indices[b, n, k]]`, `[B, N, D]`; the gradient goes to the first largest."""

    def attaining(points, around):
        edges = jax.lax.optimization_barrier(points[around])
        slots = jnp.arange(around.shape[1])[:, None]
        equal = edges == edges.max(1, keepdims=True)
        first = jnp.where(equal, slots, around.shape[1] - 1).min(1)
        return jnp.take_along_axis(around, first, 1), jnp.isnan(edges).any(1)

    still = jax.lax.stop_gradient(x)
    chosen, broken = jax.lax.map(lambda pair: attaining(*pair), (still, indices))
    # NaN is nowhere the largest, and must not be lost.
    return jnp.where(broken, jnp.nan, jnp.take_along_axis(x, chosen, 1))


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
