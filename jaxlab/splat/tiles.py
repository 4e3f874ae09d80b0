"""Which Gaussians each image tile shows: lists of static length, nearest first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.splat.compositing import MIN_ALPHA

_MASK_ENTRIES = 1_000_000  # above it a table of tiles by Gaussians costs more than a sort


class TileLists(NamedTuple):
    """Lists of Gaussians by tile.

    Attributes:
      indices: `[tiles, K]` int32 into the Gaussians, nearest first; meaningless beyond `counts`.
      counts: `[tiles]` int32, at most `K`.
      overflow: `()` int32, pairs of a tile and a Gaussian that no list holds.
    """

    indices: jax.Array
    counts: jax.Array
    overflow: jax.Array


class Extent(NamedTuple):
    """Tiles that each Gaussian may touch: `[N]` int32 bounds, empty where `x1 < x0`."""

    x0: jax.Array
    x1: jax.Array
    y0: jax.Array
    y1: jax.Array


def tile_extent(
    means2d: jax.Array,
    cov2d: jax.Array,
    opacities: jax.Array,
    tiles_x: int,
    tiles_y: int,
    tile_size: int,
) -> Extent:
    """Tiles whose pixels the box around `alpha >= 1/255` meets.

    The box is exact: `alpha >= 1/255` needs an exponent of at most `log(255 o)`, and its half
    extents are `sqrt(2 log(255 o) cov_kk)`.

    Args:
      means2d, cov2d, opacities: `[N, 2]`, `[N, 2, 2]`, `[N]`; opacity 0 hides a Gaussian.
      tiles_x, tiles_y: number of tiles along the axes.
      tile_size: pixels along a tile's side.
    """
    level = jnp.log(jnp.maximum(opacities / MIN_ALPHA, 1.0))
    reach = jnp.sqrt(2 * level[:, None] * jnp.diagonal(cov2d, axis1=-2, axis2=-1))
    reach *= 1 + 1e-5  # rounding must not lose a pixel at the edge
    # Bounds in tiles; a pixel's centre lies half a pixel inside its tile.
    low = jnp.ceil((means2d - reach + 0.5) / tile_size) - 1
    high = jnp.floor((means2d + reach - 0.5) / tile_size)
    limit = jnp.array([tiles_x, tiles_y], low.dtype)
    low, high = jnp.clip(low, 0, limit), jnp.clip(high, -1, limit - 1)
    visible = opacities >= MIN_ALPHA
    low = jnp.where(visible[:, None], low, 1).astype(jnp.int32)
    high = jnp.where(visible[:, None], high, 0).astype(jnp.int32)
    return Extent(low[:, 0], high[:, 0], low[:, 1], high[:, 1])


def list_tiles(
    extent: Extent, depths: jax.Array, tiles_x: int, tiles_y: int, capacity: int
) -> TileLists:
    """The `capacity` nearest Gaussians of each tile.

    A large image has room for `tiles * capacity` pairs in all. Where it shows more, those of the
    farthest Gaussians are left out, also of tiles that are not full; `overflow` counts them.

    Args:
      extent: tiles of each Gaussian.
      depths: `[N]`.
      tiles_x, tiles_y: number of tiles; the lists go row by row.
      capacity: length of a list, at least 1.
    """
    capacity = min(capacity, depths.shape[0])
    if tiles_x * tiles_y * depths.shape[0] <= _MASK_ENTRIES:
        return _by_mask(extent, depths, tiles_x, tiles_y, capacity)
    return _by_sort(extent, depths, tiles_x, tiles_y, capacity)


def _by_mask(extent, depths, tiles_x, tiles_y, capacity) -> TileLists:
    """For few pairs: a table of tiles by Gaussians."""
    num = depths.shape[0]
    order = jnp.argsort(depths, stable=True)
    x0, x1, y0, y1 = (bound[order] for bound in extent)
    columns, rows = jnp.arange(tiles_x)[:, None], jnp.arange(tiles_y)[:, None]
    in_column = (columns >= x0) & (columns <= x1)
    in_row = (rows >= y0) & (rows <= y1)
    touches = (in_row[:, None] & in_column).reshape(tiles_x * tiles_y, num)
    places = jnp.cumsum(touches, 1, dtype=jnp.int32)
    found = places[:, -1]
    counts = jnp.minimum(found, capacity)
    # What has no place in a list goes to one that no list has.
    places = jnp.where(touches & (places <= capacity), places - 1, capacity)
    tiles = jnp.arange(tiles_x * tiles_y)[:, None]
    indices = jnp.zeros((tiles_x * tiles_y, capacity), jnp.int32)
    indices = indices.at[tiles, places].set(order.astype(jnp.int32), mode="drop")
    return TileLists(indices, counts, (found - counts).sum(dtype=jnp.int32))


def _by_sort(extent, depths, tiles_x, tiles_y, capacity) -> TileLists:
    """For many pairs: one instance a pair, sorted by tile and depth.

    There is room for `tiles * capacity` instances, given out from the nearest Gaussian on. Beyond
    that, pairs of far Gaussians are dropped even where their tile has room: unlike `_by_mask`, but
    only in an image that overflows in any case.
    """
    num, tiles = depths.shape[0], tiles_x * tiles_y
    order = jnp.argsort(depths, stable=True).astype(jnp.int32)
    x0, x1, y0, y1 = (bound[order] for bound in extent)
    across = jnp.maximum(x1 - x0 + 1, 0)
    pairs = across * jnp.maximum(y1 - y0 + 1, 0)
    ends = jnp.cumsum(pairs)
    total = ends[-1]
    room = tiles * capacity
    instance = jnp.arange(room, dtype=jnp.int32)
    ended = jnp.zeros(room + 1, jnp.int32).at[jnp.minimum(ends, room)].add(1)
    rank = jnp.minimum(jnp.cumsum(ended[:room]), num - 1)
    within = instance - (ends[rank] - pairs[rank])
    width = jnp.maximum(across[rank], 1)
    tile = (y0[rank] + within // width) * tiles_x + x0[rank] + within % width
    tile = jnp.where(instance < total, tile, tiles).astype(jnp.int32)
    tile, rank = _sort_pairs(tile, rank, tiles, num)
    bounds = jnp.searchsorted(tile, jnp.arange(tiles + 1, dtype=jnp.int32)).astype(jnp.int32)
    starts, found = bounds[:-1], jnp.diff(bounds)
    counts = jnp.minimum(found, capacity)
    slots = jnp.minimum(starts[:, None] + jnp.arange(capacity), room - 1)
    overflow = (total - counts.sum()).astype(jnp.int32)
    return TileLists(order[rank[slots]], counts, overflow)


def _sort_pairs(tile, rank, tiles: int, num: int):
    """By tile `<= tiles`, then rank `< num`; packed in one key they sort six times as fast."""
    if (tiles + 1) * num > 2**32:
        return jax.lax.sort((tile, rank), num_keys=2)
    key = jnp.sort(tile.astype(jnp.uint32) * num + rank.astype(jnp.uint32))
    return (key // num).astype(jnp.int32), (key % num).astype(jnp.int32)
