import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat import tiles
from tests.splat import reference_render
from tests.splat.scenes import camera, gsplat_case, random_cloud, render

METHODS = ("dense", "tiled")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["tiny", "basic"])
def test_renders_what_gsplat_renders(name, method):
    cloud, view, rgba = gsplat_case(name)
    out = render(cloud, view, 123, 82, method=method)
    np.testing.assert_allclose(out.rgb, rgba[..., :3], atol=3e-6)
    np.testing.assert_allclose(out.alpha, rgba[..., 3], atol=3e-6)
    assert out.overflow == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("degree", [0, 3])
def test_renders_what_a_loop_over_pixels_renders(degree, method):
    cloud = random_cloud(60, degree, seed=degree)
    cloud = cloud._replace(opacity_logits=cloud.opacity_logits + 2)  # many pixels end early
    background = np.array([0.2, 0.5, 0.9], np.float32)
    wanted = reference_render.render(cloud, camera(), 24, 20, background)
    out = render(cloud, camera(), 24, 20, background=background, method=method, tile_size=5)
    for got, want, tolerance in zip(out[:3], wanted, (5e-6, 5e-6, 2e-5), strict=True):
        np.testing.assert_allclose(got, want, atol=tolerance)


def test_both_methods_agree_with_their_gradients_in_every_tiling():
    cloud, view = random_cloud(80, 1), camera(30, 23)
    weights = jax.random.normal(jax.random.key(0), (23, 30, 3))

    def gradient(**kwargs):
        def loss(cloud, viewmat, offset):
            moved = view._replace(viewmat=viewmat)
            out = splat.render(cloud, moved, 30, 23, means2d_offset=offset, **kwargs)
            return (weights * out.rgb).sum() + out.depth.sum() + (out.alpha**2).sum()

        compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
        return compiled(cloud, view.viewmat, jnp.zeros((80, 2)))

    value, wanted = gradient(method="dense")
    for size in (8, 3, 32):
        got_value, got = gradient(tile_size=size, tile_capacity=80)
        np.testing.assert_allclose(got_value, value, rtol=1e-5)
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(x, y, atol=2e-4 * (1 + abs(y).max()))


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_finite_differences(method):
    with jax.enable_x64(True):
        cloud = jax.tree.map(lambda x: np.asarray(x, np.float64), random_cloud(12, 2))
        view = jax.tree.map(lambda x: np.asarray(x, np.float64), camera(12, 10))
        weights = np.random.default_rng(0).normal(size=(10, 12, 3))

        @jax.jit
        def loss(cloud):
            out = render(cloud, view, 12, 10, method=method)
            return (weights * out.rgb).sum() + out.depth.sum()

        gradient = jax.jit(jax.grad(loss))(cloud)
        rng = np.random.default_rng(1)
        for name in cloud._fields:
            leaf = getattr(cloud, name)
            direction = rng.normal(size=leaf.shape)
            up, down = (
                loss(cloud._replace(**{name: leaf + step * direction})) for step in (1e-7, -1e-7)
            )
            want = (up - down) / 2e-7
            got = (getattr(gradient, name) * direction).sum()
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_extreme_gaussians_have_finite_images_and_gradients(method):
    cloud = random_cloud(12)
    view = camera()
    eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
    means = cloud.means.at[0].set(eye).at[1].set(2 * eye).at[2].set(0.996 * eye)
    cloud = cloud._replace(
        means=means,
        quats=cloud.quats.at[3].set(0),
        log_scales=cloud.log_scales.at[4].set(-30.0).at[5].set(3.0).at[2].set(3.0),
        opacity_logits=cloud.opacity_logits.at[6].set(60.0).at[7].set(-60.0),
    )

    def loss(cloud):
        out = render(cloud, view, 24, 20, method=method)
        return (out.rgb**2).sum() + out.alpha.sum() + out.depth.sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(cloud)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(x).all() for x in gradient)


def test_masked_gaussians_are_not_there_and_have_no_gradient():
    cloud = random_cloud(20)
    mask = jnp.arange(20) % 2 == 0
    kept = jax.tree.map(lambda x: x[mask], cloud)
    for method in METHODS:
        masked = render(cloud, camera(), 24, 20, mask=mask, method=method)
        wanted = render(kept, camera(), 24, 20, method=method)
        np.testing.assert_allclose(masked.rgb, wanted.rgb, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda c: render(c, camera(), 24, 20, mask=mask).rgb.sum()))(cloud)
    assert all((x[~mask] == 0).all() for x in gradient)


def test_nothing_shows_the_background():
    nothing = jax.tree.map(lambda x: x[:0], random_cloud(4))
    background = jnp.array([0.1, 0.2, 0.3])
    for method in METHODS:
        out = render(nothing, camera(), 24, 20, method=method, background=background)
        np.testing.assert_allclose(out.rgb, np.broadcast_to(background, (20, 24, 3)))
        assert not out.alpha.any()
        assert out.overflow == 0


@pytest.mark.parametrize("method", METHODS)
def test_no_product_has_the_precision_of_an_accelerators_default(method):
    def loss(cloud):
        return splat.ssim(
            render(cloud, camera(), 24, 20, method=method).rgb, jnp.zeros((20, 24, 3))
        )

    text = str(jax.make_jaxpr(jax.grad(loss))(random_cloud(4)))
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST")
    assert "dot_general[" in text


def test_overflow_counts_what_is_dropped():
    cloud = random_cloud(50)._replace(opacity_logits=jnp.full(50, 3.0))
    seen = splat.project_gaussians(
        cloud.means, splat.covariance(cloud.log_scales, cloud.quats), *camera(), 24, 20
    )
    extent = tiles.tile_extent(
        seen.means2d, seen.cov2d, jax.nn.sigmoid(cloud.opacity_logits), 3, 3, 8
    )
    columns, rows = (
        np.maximum(extent.x1 - extent.x0 + 1, 0),
        np.maximum(extent.y1 - extent.y0 + 1, 0),
    )
    pairs = int((columns * rows).sum())
    overflow = {
        c: int(render(cloud, camera(), 24, 20, tile_capacity=c).overflow) for c in (1, 10, 50)
    }
    assert overflow[50] == 0
    assert 0 < overflow[10] < overflow[1] == pairs - 9  # each of nine tiles keeps one


def test_bands_can_be_left_out():
    cloud = random_cloud(10, degree=2)
    cut = cloud._replace(sh=cloud.sh[:, :4])
    np.testing.assert_allclose(
        render(cloud, camera(), 24, 20, sh_degree=1).rgb,
        render(cut, camera(), 24, 20).rgb,
        atol=1e-6,
    )


def test_views_and_clouds_batch_without_new_traces():
    cloud = random_cloud(10)
    cameras = splat.orbit_cameras(3, 3.0, 16, 16)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def views(cloud, cameras):
        return jax.vmap(lambda view: render(cloud, view, 16, 16).rgb)(cameras)

    together = views(cloud, cameras)
    views(random_cloud(10, seed=1), cameras)
    for n in range(3):
        one = render(cloud, jax.tree.map(lambda x, n=n: x[n], cameras), 16, 16).rgb
        np.testing.assert_allclose(together[n], one, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "fast"}, "method must be one of tiled, dense, got 'fast'"),
        ({"width": 0}, "width and height must be >= 1, got 0 x 20"),
        ({"height": -1}, "width and height must be >= 1, got 24 x -1"),
        ({"tile_capacity": 0}, "tile_size and tile_capacity must be >= 1"),
        ({"sh_degree": 1}, "degree 1 needs 4 coefficients a channel, sh holds 1"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        splat.render(random_cloud(4), camera(), **({"width": 24, "height": 20} | change))
