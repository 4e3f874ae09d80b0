import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat import fitting

CONFIG = splat.FitConfig(grow_grad=0.5, grow_scale=0.1, prune_opacity=0.05)
SLOTS = 8


def make_state(alive, gradient, scale=0.05, opacity=0.5):
    """Slots with given mean gradients; moments are all ones."""
    rng = np.random.default_rng(0)
    cloud = splat.GaussianCloud(
        rng.normal(size=(SLOTS, 3)),
        np.log(np.broadcast_to(scale, SLOTS))[:, None] + np.array([0, -0.5, -1.0]),
        rng.normal(size=(SLOTS, 4)),
        np.broadcast_to(np.log(opacity) - np.log1p(-np.asarray(opacity)), SLOTS),
        rng.normal(size=(SLOTS, 4, 3)),
    )
    cloud = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), cloud)
    ones = jax.tree.map(jnp.ones_like, cloud)
    state = splat.init_fit_state(cloud, alive)
    return state._replace(
        mu=ones,
        nu=ones,
        grad_accum=2 * jnp.asarray(gradient, jnp.float32),
        vis_count=jnp.full(SLOTS, 2),
        step=jnp.int32(100),
    )


def densify(state, config=CONFIG, seed=0):
    return jax.jit(splat.densify_and_prune, static_argnames="config")(
        jax.random.key(seed), state, config
    )


def test_small_growers_are_cloned_into_free_slots_by_descending_gradient():
    alive = [True, True, False, True, False, True, True, True]
    state = make_state(alive, [0.1, 0.6, 9, 0.9, 9, 0.1, 0.7, 0.2])
    after = densify(state)
    assert after.alive.all()
    # Slot 2 gets the largest gradient (3), slot 4 the second (6); 1 finds no room.
    for name, x, y in zip(state.cloud._fields, after.cloud, state.cloud, strict=True):
        np.testing.assert_array_equal(x[2], y[3], err_msg=name)
        np.testing.assert_array_equal(x[4], y[6], err_msg=name)
        kept = [0, 1, 3, 5, 6, 7]
        np.testing.assert_array_equal(x[jnp.array(kept)], y[jnp.array(kept)])
    for moments in (after.mu, after.nu):
        for leaf in moments:
            zeroed = [not leaf[slot].any() for slot in range(SLOTS)]
            assert zeroed == [slot in (2, 4) for slot in range(SLOTS)]
    assert not after.grad_accum.any()
    assert not after.vis_count.any()
    assert after.step == 100


def test_large_growers_are_split():
    alive = [True] * 6 + [False] * 2
    state = make_state(alive, [0.6, 0, 0, 0, 0, 0, 0, 0], scale=0.3)
    after = densify(state)
    assert after.alive.sum() == 7
    for slot in (0, 6):
        np.testing.assert_allclose(
            after.cloud.log_scales[slot], state.cloud.log_scales[0] - np.log(1.6), rtol=1e-5
        )
        assert abs(after.cloud.means[slot] - state.cloud.means[0]).max() > 1e-3
        np.testing.assert_array_equal(after.cloud.quats[slot], state.cloud.quats[0])
        assert not after.mu.means[slot].any()
    assert abs(after.cloud.means[0] - after.cloud.means[6]).max() > 1e-3  # independent draws


def test_split_means_have_the_gaussians_law():
    state = make_state([True] * 4 + [False] * 4, [0.6, 0, 0, 0, 0, 0, 0, 0], scale=0.5)
    keys = jax.random.split(jax.random.key(0), 4000)
    run = jax.jit(jax.vmap(lambda key: splat.densify_and_prune(key, state, CONFIG).cloud.means))
    means = np.asarray(run(keys))[:, [0, 4]].reshape(-1, 3)
    want = splat.covariance(state.cloud.log_scales[0], state.cloud.quats[0])
    np.testing.assert_allclose(np.cov(means.T), want, atol=0.02)
    np.testing.assert_allclose(means.mean(0), state.cloud.means[0], atol=0.02)


def test_faint_gaussians_die_first_and_their_slots_are_used():
    opacity = np.full(SLOTS, 0.5)
    opacity[1] = 0.01
    state = make_state([True] * SLOTS, [0.6, 9, 0, 0, 0, 0, 0, 0], opacity=opacity)
    after = densify(state)
    assert after.alive.all()
    np.testing.assert_array_equal(after.cloud.means[1], state.cloud.means[0])
    calm = densify(state._replace(grad_accum=jnp.zeros(SLOTS)))
    assert calm.alive.tolist() == [True, False] + [True] * 6
    assert not calm.mu.sh[1].any()


def test_large_gaussians_die_where_that_is_asked_for():
    scale = np.full(SLOTS, 0.05)
    scale[3] = 0.5
    state = make_state([True] * SLOTS, np.zeros(SLOTS), scale=scale)
    assert densify(state).alive.all()
    config = dataclasses.replace(CONFIG, prune_scale=0.1, extent=2.0)
    assert densify(state, config).alive.tolist() == [n != 3 for n in range(SLOTS)]


def test_large_gaussians_stay_until_the_first_reset():
    scale = np.full(SLOTS, 0.05)
    scale[3] = 0.5
    state = make_state([True] * SLOTS, np.zeros(SLOTS), scale=scale)
    config = dataclasses.replace(CONFIG, prune_scale=0.1, reset_every=250)
    adapt = jax.jit(fitting._adapt, static_argnames="config")
    early, late = (
        adapt(jax.random.key(0), state._replace(step=jnp.int32(step)), config)
        for step in (200, 300)
    )
    assert early.alive.all()
    assert late.alive.tolist() == [n != 3 for n in range(SLOTS)]
    never = dataclasses.replace(config, reset_every=0)
    assert not adapt(jax.random.key(0), state, never).alive[3]


def test_never_seen_gaussians_do_not_divide_by_zero():
    state = make_state([True] * 4 + [False] * 4, np.zeros(SLOTS))
    after = densify(state._replace(vis_count=jnp.zeros(SLOTS, jnp.int32)))
    assert after.alive.sum() == 4
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after))


def test_reset_lowers_opacities_and_forgets_their_moments():
    state = make_state([True] * SLOTS, np.zeros(SLOTS), opacity=np.linspace(0.001, 0.9, SLOTS))
    after = splat.reset_opacity(state, value=0.01)
    opacity = jax.nn.sigmoid(after.cloud.opacity_logits)
    np.testing.assert_allclose(opacity, np.minimum(np.linspace(0.001, 0.9, SLOTS), 0.01), rtol=1e-4)
    assert not after.mu.opacity_logits.any()
    assert not after.nu.opacity_logits.any()
    assert after.mu.means.all()
    traced = jax.jit(lambda value: splat.reset_opacity(state, value=value))(0.01)
    np.testing.assert_allclose(traced.cloud.opacity_logits, after.cloud.opacity_logits, rtol=1e-5)
    with pytest.raises(ValueError, match=r"value must lie in \(0, 1\), got 1.0"):
        splat.reset_opacity(state, value=1.0)
