"""Layers that the backbones share."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.pooled import (
    EPSILON,
    MOMENTUM,
    DenseParameters,
    FoldedNorm,
    largest_products,
    product_moments,
)
from jaxlab.splat.neighbors import farthest_point_sample, knn


def max_pool(x: jax.Array, axis: int) -> jax.Array:
    """The maximum along `axis`, whose gradient goes to the first largest entry alone.

    The gradient of `jnp.max` compares entries with the maximum; where a compiler fuses the
    comparison with the computation of `x`, rounding differs and gradient is lost in silence. An
    index does not have that problem.
    """
    place = jnp.expand_dims(jnp.argmax(x, axis), axis)
    entries = jax.lax.broadcasted_iota(place.dtype, x.shape, axis % x.ndim)
    return jnp.where(entries == place, x, 0).sum(axis)


def take(x: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of each object: `x` `[B, N, C]` at `indices` `[B, ...]`, giving `[B, ..., C]`."""
    return jax.vmap(lambda rows, where: rows[where])(x, indices)


def neighbor_indices(query: jax.Array, points: jax.Array, k: int) -> jax.Array:
    """The `k` nearest (or all) of `points` `[B, N, D]` to each of `query` `[B, M, D]`."""
    k = min(k, points.shape[1])
    query, points = jax.lax.stop_gradient((query, points))
    return jax.vmap(lambda q, p: knn(q, p, k).indices)(query, points)


def in_farthest_order(
    positions: jax.Array, features: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """The `count` farthest points of each object first, then none: positions and features.

    A prefix of the result is the farthest-point sample of the result, so that all coarser stages
    are prefixes.
    """
    still = jax.lax.stop_gradient(positions)
    order = jax.vmap(lambda p: farthest_point_sample(p, count))(still)
    return take(positions, order), take(features, order)


class Norm(nn.Module):
    """Batch normalisation over all axes but the last, synchronised over `axis_name`.

    Attributes:
      scale: initial factor.
    """

    axis_name: str | None = None
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            axis_name=self.axis_name,
            scale_init=nn.initializers.constant(self.scale),
        )(x)


class MLP(nn.Module):
    """Dense layers, each with batch normalisation and an activation.

    Attributes:
      widths: of the layers.
      bias: whether the dense layers have one.
      last_activation: whether the last layer ends with the activation.
      pooled: whether the maximum over the points follows, `[B, N, C]` to `[B, D]`; the activation
        must be increasing, since it is then taken of the maximum.
    """

    widths: Sequence[int]
    axis_name: str | None = None
    bias: bool = True
    activation: Callable = nn.relu
    last_activation: bool = True
    pooled: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for index, width in enumerate(self.widths):
            last = index + 1 == len(self.widths)
            if last and self.pooled:
                x = self._largest(x, train, index, width)
            else:
                x = Norm(self.axis_name)(nn.Dense(width, use_bias=self.bias)(x), train)
            if self.last_activation or not last:
                x = self.activation(x)
        return x

    def _largest(self, x: jax.Array, train: bool, index: int, width: int) -> jax.Array:
        """The normalised dense layer `index` at its maximum, under the names it has unpooled."""
        dense = DenseParameters(width, self.bias, name=f"Dense_{index}")
        kernel, bias = dense(x.shape[-1])
        moments = None
        if train:
            mean, var = product_moments(x, kernel, self.axis_name)
            moments = mean + bias, var
        factor, offset = FoldedNorm(name=f"Norm_{index}")(width, moments)
        return largest_products(x, kernel * factor) + bias * factor + offset


class Dropout(nn.Module):
    """Dropout whose mask of a row depends on the key and the row's number in the global batch.

    So that any number of devices along `axis_name` draws the same masks from the same key.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        keep = row_bernoulli(self, x.shape[0], x.shape[1:], 1 - self.rate)
        return jnp.where(keep, x / (1 - self.rate), 0)


class DropPath(nn.Module):
    """Leaves out the whole branch of a row with probability `rate`, and scales up the others."""

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        keep = row_bernoulli(self, x.shape[0], (1,) * (x.ndim - 1), 1 - self.rate)
        return jnp.where(keep, x / (1 - self.rate), 0)


def row_bernoulli(module: nn.Module, rows: int, shape: tuple[int, ...], probability: float):
    """Independent coins `[rows, *shape]`, a function of the module's key and the global row."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability, shape))(
        row_keys(module, rows)
    )


def row_keys(module: nn.Module, rows: int) -> jax.Array:
    """A key for each row of this device, from the module's `dropout` stream."""
    first = 0
    if module.axis_name is not None and not module.is_initializing():
        first = jax.lax.axis_index(module.axis_name) * rows
    key = module.make_rng("dropout")
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(first + jnp.arange(rows))


class Head(nn.Module):
    """Dense layers with normalisation, activation and dropout, then the class scores.

    Attributes:
      widths: of the hidden layers; dropout follows each one of the last `dropped`.
      dropped: how many hidden layers have dropout.
      bias: of the hidden layers, one for each or one for all.
    """

    widths: Sequence[int]
    num_classes: int
    dropout: float
    axis_name: str | None = None
    dropped: int = 2
    bias: bool | Sequence[bool] = True
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        biases = [self.bias] * len(self.widths) if isinstance(self.bias, bool) else self.bias
        for index, (width, bias) in enumerate(zip(self.widths, biases, strict=True)):
            x = Norm(self.axis_name)(nn.Dense(width, use_bias=bias)(x), train)
            x = self.activation(x)
            if index >= len(self.widths) - self.dropped:
                x = Dropout(self.dropout, self.axis_name)(x, train)
        if not self.is_initializing():
            self.sow("features", "global", x)
        return nn.Dense(self.num_classes)(x)
