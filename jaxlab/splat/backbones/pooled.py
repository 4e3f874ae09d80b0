"""A dense layer with batch normalisation whose outputs are wanted at their maximum alone.

PointNet's widest layer makes 1024 numbers a point and keeps of each the largest of N. Two facts
spare what is thrown away. Mean and variance of `x W` follow from mean and covariance of `x`, so
normalisation is a factor and an offset that are known before the product. And a maximum is the
product of one row, so its gradient needs the rows that attain one, not all.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

MOMENTUM = 0.9  # of every batch normalisation
EPSILON = 1e-5
_IN_CACHE = 2**19  # products


class DenseParameters(nn.Module):
    """Kernel `[C, width]` and bias `[width]` of an `nn.Dense`; a bias of 0 where it has none."""

    width: int
    use_bias: bool

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (channels, self.width))
        if not self.use_bias:
            return kernel, jnp.zeros(self.width)
        return kernel, self.param("bias", nn.initializers.zeros, (self.width,))


class FoldedNorm(nn.Module):
    """A `layers.Norm` as the factor and the offset `[D]` that it comes to, with its variables."""

    @nn.compact
    def __call__(
        self, width: int, moments: tuple[jax.Array, jax.Array] | None
    ) -> tuple[jax.Array, jax.Array]:
        """Of mean and variance `[width]` of what is normalised, or of the running ones for None."""
        return _FoldedBatchNorm(name="BatchNorm_0")(width, moments)


class _FoldedBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, width, moments):
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        var = self.variable("batch_stats", "var", jnp.ones, (width,))
        if moments is None:
            moments = mean.value, var.value
        else:
            for running, now in zip((mean, var), moments, strict=True):
                running.value = MOMENTUM * running.value + (1 - MOMENTUM) * now
        factor = scale * jax.lax.rsqrt(moments[1] + EPSILON)
        return factor, bias - moments[0] * factor


def product_moments(
    x: jax.Array, kernel: jax.Array, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance `[D]` of `x @ kernel` over all axes of `x` but the last.

    Args:
      x: `[..., C]`.
      kernel: `[C, D]`.
      axis_name: mapped axis over which rows are spread, too.
    """

    def average(value):
        return value if axis_name is None else jax.lax.pmean(value, axis_name)

    rows = x.reshape(-1, x.shape[-1])
    mean = average(rows.mean(0))
    centred = rows - mean
    covariance = average(centred.T @ centred / len(rows))
    return mean @ kernel, jnp.maximum(jnp.sum(kernel * (covariance @ kernel), 0), 0)


def largest_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`max_n x[b, n] @ kernel`: `[B, D]` of `x` `[B, N, C]` and `kernel` `[C, D]`.

    The gradient goes to the first row that attains a maximum.
    """
    still = jax.lax.stop_gradient((x, kernel))
    rows = jax.lax.platform_dependent(*still, cpu=_in_blocks, default=_at_once)
    attained = jax.vmap(lambda points, where: points[where])(x, rows)
    largest = jnp.einsum("bdc,cd->bd", attained, kernel)
    # A row of NaN is nowhere the largest, and must not be lost.
    return jnp.where(jnp.isnan(x).any((1, 2))[:, None], jnp.nan, largest)


def _at_once(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The first rows that attain the maxima, `[B, D]`."""
    # Compared with themselves, products must not be computed twice with other rounding.
    products = jax.lax.optimization_barrier(x @ kernel)
    number, last = jnp.arange(x.shape[1])[:, None], x.shape[1] - 1
    return jnp.where(products == products.max(1, keepdims=True), number, last).min(1)


def _in_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """As `_at_once`, objects whose products fit a processor's cache at a time."""
    block = max(_IN_CACHE // (x.shape[1] * kernel.shape[1]), 1)
    if block >= len(x):
        return _at_once(x, kernel)
    return jax.lax.map(
        lambda points: _at_once(points[None], kernel)[0], x, batch_size=block if block > 1 else None
    )
