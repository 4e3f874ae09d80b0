"""The differentiable renderer: a cloud and a camera to an image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_choice
from jaxlab.splat.compositing import blend_tiles, composite, layer_alphas
from jaxlab.splat.geometry import covariance
from jaxlab.splat.harmonics import eval_sh
from jaxlab.splat.harmonics import sh_degree as degree_of
from jaxlab.splat.precision import in_full_precision
from jaxlab.splat.projection import project_gaussians
from jaxlab.splat.tiles import list_tiles, tile_extent
from jaxlab.splat.types import Camera, GaussianCloud

METHODS = ("tiled", "dense")
# Lists differ in length: few groups wait for their longest, many do little at a time.
_GROUPS = 8


class RenderOutput(NamedTuple):
    """What a camera sees.

    Attributes:
      rgb: `[H, W, 3]` over the background.
      alpha: `[H, W]`, sum of the compositing weights.
      depth: `[H, W]`, weighted sum of depths (not divided by `alpha`).
      overflow: `()` int32, pairs of a tile and a Gaussian that were dropped; 0 means exact.
    """

    rgb: jax.Array
    alpha: jax.Array
    depth: jax.Array
    overflow: jax.Array


@in_full_precision
def render(
    cloud: GaussianCloud,
    camera: Camera,
    width: int,
    height: int,
    *,
    background: jax.Array | None = None,
    sh_degree: int | None = None,
    mask: jax.Array | None = None,
    method: str = "tiled",
    tile_size: int = 8,
    tile_capacity: int = 128,
    means2d_offset: jax.Array | None = None,
    eps2d: float = 0.3,
    near: float = 0.01,
) -> RenderOutput:
    """Renders one view; differentiable in everything but the image's size.

    Both methods give the same image. `dense` meets every pixel with every Gaussian, and has
    derivatives of any kind and order; `tiled` meets a tile's pixels with the tile's own list, and
    has reverse-mode gradients. Batch over views or clouds with `vmap`.

    Args:
      cloud: one cloud of `N` Gaussians.
      camera: one camera.
      width, height: of the image in pixels.
      background: `[3]`, black by default.
      sh_degree: bands of the colour to use; all that the cloud holds by default.
      mask: `[N]` bool; False hides a Gaussian.
      method: `"tiled"` or `"dense"`.
      tile_size: pixels along a tile's side.
      tile_capacity: Gaussians a tile can show; `overflow` tells how many found no room.
      means2d_offset: `[N, 2]` added to the projected centres, in pixels; differentiate by it for
        gradients in screen space.
      eps2d: variance in square pixels added to every projected Gaussian.
      near: smallest depth that is drawn.

    Raises:
      ValueError: an unknown method, sizes below 1, or more bands than the cloud holds.
    """
    check_choice("method", method, METHODS)
    if width <= 0 or height <= 0:
        raise ValueError(f"width and height must be >= 1, got {width} x {height}")
    if tile_size <= 0 or tile_capacity <= 0:
        raise ValueError(
            f"tile_size and tile_capacity must be >= 1, got {tile_size} and {tile_capacity}"
        )
    cloud, camera = jax.tree.map(jnp.asarray, (cloud, camera))
    dtype = cloud.means.dtype
    covs = covariance(cloud.log_scales, cloud.quats)
    seen = project_gaussians(
        cloud.means, covs, camera.viewmat, camera.K, width, height, eps2d=eps2d, near=near
    )
    means2d = seen.means2d if means2d_offset is None else seen.means2d + means2d_offset
    shown = seen.valid if mask is None else seen.valid & mask
    opacities = jnp.where(shown, jax.nn.sigmoid(cloud.opacity_logits), 0)
    eye = -camera.viewmat[:3, :3].T @ camera.viewmat[:3, 3]
    degree = degree_of(cloud.sh.shape[-2]) if sh_degree is None else sh_degree
    colors = jnp.maximum(eval_sh(degree, cloud.sh, cloud.means - eye) + 0.5, 0)
    values = jnp.concatenate([colors, seen.depths[:, None]], -1)  # blended alike
    values = jnp.where(shown[:, None], values, 0)
    if method == "dense" or not len(cloud.means):  # of nothing there are no lists
        order = jnp.argsort(seen.depths, stable=True)
        rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
        pixels = jnp.stack([columns.ravel(), rows.ravel()], -1).astype(dtype) + 0.5
        alphas = layer_alphas(pixels, means2d[order], seen.conics[order], opacities[order])
        blended, alpha = composite(alphas, values[order], jnp.zeros(4, dtype))
        blended, alpha = blended.reshape(height, width, 4), alpha.reshape(height, width)
        overflow = jnp.zeros((), jnp.int32)
    else:
        layers = jnp.concatenate([means2d, seen.conics, opacities[:, None], values], -1)
        blended, alpha, overflow = _render_tiles(
            layers, seen.cov2d, seen.depths, width, height, tile_size, tile_capacity
        )
    background = jnp.zeros(3, dtype) if background is None else jnp.asarray(background, dtype)
    rgb = blended[..., :3] + (1 - alpha)[..., None] * background
    return RenderOutput(rgb, alpha, blended[..., 3], overflow)


def _render_tiles(layers, cov2d, depths, width, height, tile_size, capacity):
    """`(blended [H, W, C], alpha [H, W], overflow)` of packed Gaussians `[N, 6 + C]`."""
    tiles_x, tiles_y = -(-width // tile_size), -(-height // tile_size)
    still = jax.lax.stop_gradient((layers[:, :2], cov2d, layers[:, 5]))
    extent = tile_extent(*still, tiles_x, tiles_y, tile_size)
    lists = list_tiles(extent, jax.lax.stop_gradient(depths), tiles_x, tiles_y, capacity)
    columns, rows = jnp.meshgrid(jnp.arange(tiles_x), jnp.arange(tiles_y))
    corners = jnp.stack([columns.ravel(), rows.ravel()], -1).astype(layers.dtype) * tile_size
    blended = _blend_in_groups(layers, corners, lists, tile_size)
    image = blended.reshape(tiles_y, tiles_x, -1, tile_size, tile_size)
    image = image.transpose(0, 3, 1, 4, 2).reshape(tiles_y * tile_size, tiles_x * tile_size, -1)
    image = image[:height, :width]
    return image[..., :-1], image[..., -1], lists.overflow


def _blend_in_groups(layers, corners, lists, tile_size):
    """`blend_tiles` of groups whose lists are of like length: each takes as long as its longest."""
    order = jnp.argsort(-lists.counts, stable=True)
    size = -(-len(order) // _GROUPS)
    missing = -len(order) % size

    def grouped(x):
        x = jnp.pad(x[order], [(0, missing), *[(0, 0)] * (x.ndim - 1)])
        return x.reshape(-1, size, *x.shape[1:])

    def blend(group):
        indices, counts, corners = group
        return blend_tiles(layers[indices.T], corners, counts, tile_size)

    groups = jax.tree.map(grouped, (lists.indices, lists.counts, corners))
    blended = jax.lax.map(blend, groups)
    return blended.reshape(-1, *blended.shape[2:])[jnp.argsort(order)]
