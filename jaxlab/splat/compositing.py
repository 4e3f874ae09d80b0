"""Front-to-back alpha compositing of depth-sorted Gaussians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.splat.precision import in_full_precision

STOP = 1e-4  # a pixel ends before its transmittance falls to this
MAX_ALPHA = 0.99
MIN_ALPHA = 1 / 255

# Columns of the packed Gaussians that `blend_tiles` reads.
_X, _Y, _A, _B, _C, _OPACITY = range(6)


@in_full_precision
def composite(
    alphas: jax.Array, colors: jax.Array, background: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Blends sorted layers: `w_j = alpha_j T_j` as long as `T_{j+1} > 1e-4`.

    Args:
      alphas: `[..., P, N]`, nearest first, clamped and cut by the caller.
      colors: `[..., N, C]`.
      background: `[C]`.

    Returns:
      `(rgb, alpha)`: `[..., P, C]` over the background, and the sum of weights `[..., P]`.
    """
    after = jnp.cumprod(1 - alphas, -1)
    before = jnp.concatenate([jnp.ones_like(after[..., :1]), after[..., :-1]], -1)
    weights = jnp.where(after > STOP, alphas * before, 0)
    alpha = weights.sum(-1)
    return weights @ colors + (1 - alpha)[..., None] * background, alpha


def layer_alphas(pixels: jax.Array, means2d: jax.Array, conics: jax.Array, opacities: jax.Array):
    """Opacity of each Gaussian at each pixel, clamped to 0.99 and cut below 1/255.

    Args:
      pixels: `[P, 2]` pixel centres.
      means2d, conics, opacities: `[N, 2]`, `[N, 3]`, `[N]`.

    Returns:
      `[P, N]`.
    """
    dx, dy = jnp.moveaxis(pixels[:, None] - means2d, -1, 0)
    raw = opacities * jnp.exp(-_exponent(dx, dy, *conics.T))
    return jnp.where(raw < MIN_ALPHA, 0, jnp.minimum(raw, MAX_ALPHA))


def _exponent(dx, dy, a, b, c):
    # Not below zero: the conic is positive definite, and rounding must not make a Gaussian grow.
    return jnp.maximum(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def blend_tiles(
    layers: jax.Array, corners: jax.Array, counts: jax.Array, tile_size: int
) -> jax.Array:
    """Blends each tile's own list of Gaussians over its pixels.

    The layers are walked one by one, all tiles at once, until every list or every pixel has ended;
    the reverse pass walks back from the final transmittance and computes each alpha anew, so memory
    is proportional to pixels plus list entries, not to their product.

    Args:
      layers: `[K, tiles, 6 + C]`, nearest first: centre x, y; conic xx, xy, yy; opacity; and C
        values to blend. Entries beyond `counts` are not read.
      corners: `[tiles, 2]` x and y of the upper left corner, in pixels.
      counts: `[tiles]` int32, length of each list.
      tile_size: pixels along a side.

    Returns:
      `[tiles, C + 1, tile_size^2]`: the blended values, and last the sum of weights.
    """
    return _blend_forward(layers, corners, counts, tile_size)[0]


def _falloff(layer, corners, tile_size):
    """`exp(-sigma)` `[tiles, P]` of one layer, the pixels row by row."""
    steps = jnp.arange(tile_size, dtype=layer.dtype) + 0.5
    rows, columns = (x.ravel() for x in jnp.meshgrid(steps, steps, indexing="ij"))
    dx = (corners[:, :1] - layer[:, _X, None]) + columns
    dy = (corners[:, 1:] - layer[:, _Y, None]) + rows
    a, b, c = (layer[:, n, None] for n in (_A, _B, _C))
    return jnp.exp(-_exponent(dx, dy, a, b, c))


def _blend_forward(layers, corners, counts, tile_size):
    num_tiles, pixels = layers.shape[1], tile_size**2
    channels = layers.shape[2] - _OPACITY  # with the weights themselves
    longest = counts.max(initial=0)

    def unfinished(carry):
        index, _, running, _, _ = carry
        return (index < longest) & running.any()

    def step(carry):
        index, through, running, end, blended = carry
        layer = layers[index]
        opacity = jnp.where(index < counts, layer[:, _OPACITY], 0)[:, None]
        raw = opacity * _falloff(layer, corners, tile_size)
        alpha = jnp.where(raw < MIN_ALPHA, 0, jnp.minimum(raw, MAX_ALPHA))
        after = through * (1 - alpha)
        running &= after > STOP
        weight = jnp.where(running, alpha * through, 0)
        values = jnp.concatenate([layer[:, _OPACITY + 1 :], jnp.ones_like(layer[:, :1])], 1)
        return (
            index + 1,
            jnp.where(running, after, through),
            running,
            jnp.where(running, index + 1, end),
            blended + values[:, :, None] * weight[:, None, :],
        )

    start = (
        jnp.zeros((), jnp.int32),
        jnp.ones((num_tiles, pixels), layers.dtype),
        jnp.ones((num_tiles, pixels), bool),
        jnp.zeros((num_tiles, pixels), jnp.int32),
        jnp.zeros((num_tiles, channels, pixels), layers.dtype),
    )
    walked, through, _, end, blended = jax.lax.while_loop(unfinished, step, start)
    return blended, (layers, corners, counts, walked, through, end)


@in_full_precision
def _blend_backward(tile_size, saved, cotangent):
    layers, corners, counts, walked, through, end = saved

    def step(carry):
        index, through, behind, gradient = carry
        layer = layers[index]
        opacity = jnp.where(index < counts, layer[:, _OPACITY], 0)[:, None]
        falloff = _falloff(layer, corners, tile_size)
        raw = opacity * falloff
        shown = (raw >= MIN_ALPHA) & (index < end)
        alpha = jnp.where(shown, jnp.minimum(raw, MAX_ALPHA), 0)
        through = through / (1 - alpha)
        weight = alpha * through
        values = layer[:, _OPACITY + 1 :]
        by_weight = (values[:, :, None] * cotangent[:, :-1]).sum(1) + cotangent[:, -1]
        by_alpha = through * by_weight - behind / (1 - alpha)
        behind = behind + weight * by_weight
        by_raw = jnp.where(shown & (raw < MAX_ALPHA), by_alpha, 0)
        by_layer = _sum_over_pixels(-by_raw * raw, layer, corners, tile_size)
        by_values = jnp.einsum("tcp,tp->tc", cotangent[:, :-1], weight)
        return (
            index - 1,
            through,
            behind,
            gradient.at[index].set(jnp.concatenate([by_layer, by_values], 1)),
        )

    start = walked - 1, through, jnp.zeros_like(through), jnp.zeros_like(layers)
    gradient = jax.lax.while_loop(lambda carry: carry[0] >= 0, step, start)[-1]
    return gradient, jnp.zeros_like(corners), None


def _sum_over_pixels(by_exponent, layer, corners, tile_size):
    """Derivatives `[tiles, 6]` by centre, conic and opacity, of `by_exponent` `[tiles, P]`.

    They are polynomials of degree 2 in a pixel's place, so one product with the six moments of the
    tile's pixels does all sums; the opacity's is the zeroth, since `d raw / d o = raw / o`.
    """
    rows, columns = (x.ravel() + 0.5 for x in np.mgrid[:tile_size, :tile_size])
    ones = np.ones_like(rows)
    moments = [ones, columns, rows, columns**2, columns * rows, rows**2]
    m, mx, my, mxx, mxy, myy = (by_exponent @ jnp.asarray(np.stack(moments, 1), layer.dtype)).T
    x, y, a, b, c, opacity = layer[:, : _OPACITY + 1].T
    x, y = corners[:, 0] - x, corners[:, 1] - y
    by_dx, by_dy = x * m + mx, y * m + my
    return jnp.stack(
        [
            -(a * by_dx + b * by_dy),
            -(b * by_dx + c * by_dy),
            0.5 * (x * (by_dx + mx) + mxx),
            x * by_dy + y * mx + mxy,
            0.5 * (y * (by_dy + my) + myy),
            jnp.where(opacity > 0, -m / jnp.where(opacity > 0, opacity, 1), 0),
        ],
        1,
    )


blend_tiles.defvjp(_blend_forward, _blend_backward)
