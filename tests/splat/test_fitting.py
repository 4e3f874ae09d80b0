import dataclasses
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import splat
from jaxlab.splat import fitting
from jaxlab.splat.raytracing import trace_views

SIZE = 16
CONFIG = splat.FitConfig(
    capacity=48, num_steps=60, densify_every=20, densify_from=20, densify_until=40, tile_capacity=48
)


@pytest.fixture(scope="module")
def scene():
    """Views of a box, their cameras, and points on it."""
    obj = splat.make_object(jax.random.key(0), "box", "flat")
    cameras = splat.orbit_cameras(6, 3.2, SIZE, SIZE)
    points = splat.sample_surface(jax.random.key(1), obj, 40)
    images = np.asarray(trace_views(obj, cameras, SIZE, SIZE))
    return images, cameras, np.asarray(points), np.full((40, 3), 0.5)


def test_fits_compactly_and_without_another_program(scene):
    chex.clear_trace_counter()
    first = splat.fit(jax.random.key(0), *scene, CONFIG)
    assert first.losses.shape == (60,)
    assert first.losses[-10:].mean() < 0.7 * first.losses[:10].mean()
    assert first.num_alive == len(first.cloud.means) <= 48
    assert first.num_alive != 40  # densification did something
    assert isinstance(first.cloud.means, np.ndarray)
    before = fitting.run_fit._cache_size()
    second = splat.fit(jax.random.key(0), *scene, CONFIG)
    assert fitting.run_fit._cache_size() == before
    np.testing.assert_array_equal(first.losses, second.losses)
    views = [
        splat.render(first.cloud, jax.tree.map(lambda x, n=n: x[n], scene[1]), SIZE, SIZE).rgb
        for n in range(6)
    ]
    np.testing.assert_allclose(
        first.psnr, splat.psnr(np.stack(views), scene[0][..., :3]), atol=1e-3
    )


def test_parts_of_a_fit_end_as_the_whole(scene):
    images, cameras, points, colors = scene
    key = jax.random.key(2)

    def start():
        return splat.init_fit_state(*splat.init_cloud(points, colors, 48))

    whole, losses = fitting.run_fit(key, images, cameras, start(), CONFIG)
    half, early = fitting.run_fit(key, images, cameras, start(), CONFIG, num_steps=30)
    end, late = fitting.run_fit(key, images, cameras, half, CONFIG, num_steps=30)
    np.testing.assert_array_equal(np.concatenate([early, late]), losses)
    for x, y in zip(jax.tree.leaves(end), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(x, y)
    on_the_host = jax.device_get((images, cameras))  # as a loader gives them
    _, same = splat.fit_states(key, *on_the_host, start(), CONFIG, num_steps=30)
    np.testing.assert_allclose(same, early, rtol=1e-4)


@pytest.mark.slow
def test_objects_batch(scene):
    images, cameras, points, colors = scene
    config = dataclasses.replace(CONFIG, num_steps=4, densify_every=2, densify_from=2)
    state = splat.init_fit_state(*splat.init_cloud(points, colors, 48))
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    pair = jnp.stack([images, images[::-1]])
    batched = jax.jit(jax.vmap(lambda k, i, s: splat.fit_states(k, i, cameras, s, config)))(
        keys, pair, both
    )
    one = jax.jit(lambda k, i, s: splat.fit_states(k, i, cameras, s, config))(
        keys[1], pair[1], state
    )
    for x, y in zip(jax.tree.leaves(batched), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(x[1], y, atol=1e-4)


def test_one_step_is_adam_with_a_rate_for_each_leaf(scene):
    images, cameras, points, colors = scene
    config = splat.FitConfig(capacity=40, num_steps=100, sh_degree=1, lambda_dssim=0.0)
    cloud, alive = splat.init_cloud(points, colors, 40, sh_degree=1)
    state = splat.init_fit_state(cloud, alive)
    camera = jax.tree.map(lambda x: x[0], cameras)
    background = jnp.array([0.2, 0.4, 0.9])
    after, loss = jax.jit(splat.fit_step, static_argnames="config")(
        state, images[0], camera, background, config
    )
    target = images[0, ..., :3] + (1 - images[0, ..., 3:]) * background

    @jax.jit
    def loss_of(cloud):
        rgb = splat.render(cloud, camera, SIZE, SIZE, background=background).rgb
        return jnp.abs(rgb - target).mean()

    want, gradient = jax.value_and_grad(loss_of)(cloud)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    rates = {"means": 2e-3, "log_scales": 1e-2, "quats": 5e-3, "opacity_logits": 5e-2, "sh": 2e-2}
    for name, rate in rates.items():
        g = getattr(gradient, name)
        tx = optax.adam(rate, eps=1e-15)
        step, _ = tx.update(g, tx.init(g))
        if name == "sh":  # higher bands learn at a twentieth
            step = step * jnp.array([1.0] + [1 / 20] * 3)[:, None]
        moved = getattr(after.cloud, name) - getattr(cloud, name)
        np.testing.assert_allclose(moved, step, atol=2e-2 * rate, err_msg=name)
    assert after.step == 1
    seen = np.asarray(after.grad_accum) > 0
    np.testing.assert_array_equal(after.vis_count, seen)
    assert seen.any()


def test_dead_slots_never_move(scene):
    images, cameras, points, colors = scene
    config = dataclasses.replace(CONFIG, densify_every=0, num_steps=5)
    state = splat.init_fit_state(*splat.init_cloud(points, colors, 48))
    start = jax.tree.map(np.array, state.cloud)
    end, _ = fitting.run_fit(jax.random.key(0), images, cameras, state, config)
    for x, y in zip(end.cloud, start, strict=True):
        np.testing.assert_array_equal(x[40:], y[40:])


def test_positions_can_be_frozen():
    rates = fitting._learning_rates(jnp.array(3), dataclasses.replace(CONFIG, lr_means=0.0))
    assert rates.means == 0


def test_rates_decay_and_bands_start_in_turn():
    config = splat.FitConfig(num_steps=101, sh_degree=2, extent=3.0)
    first, last = (fitting._learning_rates(jnp.int32(step), config) for step in (0, 100))
    np.testing.assert_allclose([first.means, last.means], [6e-3, 6e-4], rtol=1e-5)
    np.testing.assert_allclose([first.log_scales, last.log_scales], [1e-2, 3e-3], rtol=1e-5)
    np.testing.assert_allclose(first.sh[:, 0], [2e-2] + [1e-3] * 8, rtol=1e-5)
    sh = jnp.ones((1, 9, 3))
    started = [fitting._started_bands(sh, jnp.int32(degree))[0, :, 0].sum() for degree in range(4)]
    assert started == [1, 4, 9, 9]


def test_warns_once_when_tiles_overflow(scene):
    config = dataclasses.replace(CONFIG, num_steps=2, tile_capacity=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = splat.fit(jax.random.key(0), *scene, config)
    assert [str(w.message) for w in caught if "raise tile_capacity above 2" in str(w.message)]
    assert len(caught) == 1
    assert np.isfinite(result.psnr)


def test_refuses(scene):
    images, cameras, points, colors = scene
    key = jax.random.key(0)
    for bad in (images[0], images[..., :3]):
        with pytest.raises(ValueError, match=r"images must be \[V, H, W, 4\]"):
            splat.fit(key, bad, cameras, points, colors, CONFIG)
    with pytest.raises(ValueError, match="5 images need cameras with viewmat"):
        splat.fit(key, images[:5], cameras, points, colors, CONFIG)
    with pytest.raises(ValueError, match="40 points do not fit"):
        splat.fit(key, images, cameras, points, colors, dataclasses.replace(CONFIG, capacity=20))
