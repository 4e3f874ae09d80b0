import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat import tiles
from jaxlab.splat.compositing import layer_alphas
from tests.splat.scenes import camera, random_cloud


def projected(count=120, width=37, height=29):
    cloud = random_cloud(count, seed=5, spread=0.7, scale=0.05)
    covs = splat.covariance(cloud.log_scales, cloud.quats)
    seen = splat.project_gaussians(cloud.means, covs, *camera(width, height), width, height)
    return seen, jax.nn.sigmoid(cloud.opacity_logits)


def test_no_visible_pixel_lies_outside_the_extent():
    seen, opacities = projected()
    size, tiles_x, tiles_y = 4, 10, 8
    extent = tiles.tile_extent(seen.means2d, seen.cov2d, opacities, tiles_x, tiles_y, size)
    y, x = jnp.meshgrid(jnp.arange(32) + 0.5, jnp.arange(40) + 0.5, indexing="ij")
    pixels = jnp.stack([x.ravel(), y.ravel()], -1)
    alphas = layer_alphas(pixels, seen.means2d, seen.conics, opacities)
    column, row = (pixels // size).astype(int).T
    inside = (column[:, None] >= extent.x0) & (column[:, None] <= extent.x1)
    inside &= (row[:, None] >= extent.y0) & (row[:, None] <= extent.y1)
    assert not ((alphas > 0) & ~inside).any()
    # And the box is tight: half of its tiles, at least, show something.
    boxes = ((extent.x1 - extent.x0 + 1) * (extent.y1 - extent.y0 + 1)).sum()
    shown = jnp.stack([jax.ops.segment_max((alphas > 0).astype(int), row * 10 + column, 80)])
    assert shown.sum() > 0.5 * boxes


@pytest.mark.parametrize("capacity", [1, 4, 120])
def test_the_sorted_list_is_the_table(capacity):
    seen, opacities = projected()
    extent = tiles.tile_extent(seen.means2d, seen.cov2d, opacities, 10, 8, 4)
    a = tiles._by_mask(extent, seen.depths, 10, 8, capacity)
    b = tiles._by_sort(extent, seen.depths, 10, 8, capacity)
    # Room for 80 lists is given out pair by pair, from the nearest Gaussian on.
    lists, given = [[] for _ in range(80)], 0
    x0, x1, y0, y1 = map(np.asarray, extent)
    for n in np.argsort(np.asarray(seen.depths), kind="stable"):
        for row in range(y0[n], y1[n] + 1):
            for column in range(x0[n], x1[n] + 1):
                shown = lists[10 * row + column]
                if given < 80 * capacity and len(shown) < capacity:
                    shown.append(n)
                given += 1
    for list_, indices, count in zip(lists, np.asarray(b.indices), b.counts, strict=True):
        np.testing.assert_array_equal(indices[:count], list_)
    pairs = int(a.counts.sum() + a.overflow)
    assert int(b.counts.sum() + b.overflow) == pairs == given
    if pairs <= 80 * capacity:  # there is room for every pair, and both do the same
        np.testing.assert_array_equal(a.counts, b.counts)
        assert a.overflow == b.overflow
        for x, y, n in zip(a.indices, b.indices, a.counts, strict=True):
            np.testing.assert_array_equal(x[:n], y[:n])
            assert (np.diff(seen.depths[x[:n]]) >= 0).all()
    assert b.overflow > 0 or capacity == 120


def test_a_large_image_takes_the_sorted_list(monkeypatch):
    cloud, view = random_cloud(50), camera(37, 29)
    wanted = jax.jit(splat.render, static_argnums=(2, 3))(cloud, view, 37, 29)
    monkeypatch.setattr(tiles, "_MASK_ENTRIES", 0)
    jax.clear_caches()
    got = jax.jit(splat.render, static_argnums=(2, 3))(cloud, view, 37, 29)
    np.testing.assert_allclose(got.rgb, wanted.rgb, atol=1e-6)


@pytest.mark.parametrize("entries", [0, 10**9])
def test_counts_are_32_bits_wide(monkeypatch, entries):
    monkeypatch.setattr(tiles, "_MASK_ENTRIES", entries)
    with jax.enable_x64(True):
        assert splat.render(random_cloud(50), camera(37, 29), 37, 29).overflow.dtype == jnp.int32


def test_pairs_sort_the_same_where_one_key_has_no_room_for_them():
    rng = np.random.default_rng(0)
    tile = jnp.asarray(rng.integers(0, 10, 200), jnp.int32)
    rank = jnp.asarray(rng.permutation(200), jnp.int32)
    packed, pairs = (tiles._sort_pairs(tile, rank, largest, 200) for largest in (10, 2**31))
    want = sorted(zip(tile.tolist(), rank.tolist(), strict=True))
    for got in (packed, pairs):
        assert list(zip(*(x.tolist() for x in got), strict=True)) == want
