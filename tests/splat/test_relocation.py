import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxlab import splat
from jaxlab.splat.relocation import jiggle_means, relocate_faint, share_opacity
from tests.splat.scenes import random_cloud

CONFIG = splat.FitConfig(strategy="mcmc")


@pytest.mark.parametrize("copies", [1, 2, 5, 51])
@pytest.mark.parametrize("opacity", [0.02, 0.5, 0.97])
def test_a_stack_keeps_its_peak_and_its_integral(opacity, copies):
    each, shrink = (float(x[0]) for x in share_opacity(jnp.array([opacity]), jnp.array([copies])))
    np.testing.assert_allclose(1 - (1 - each) ** copies, opacity, rtol=1e-4)
    stack = quad(
        lambda x: 1 - (1 - each * np.exp(-0.5 * (x / shrink) ** 2)) ** copies, -20, 20, points=(0,)
    )
    np.testing.assert_allclose(stack[0], opacity * np.sqrt(2 * np.pi), rtol=2e-3)


def make_state(count=12):
    cloud = random_cloud(count)
    logits = jnp.where(jnp.arange(count) < 5, -9.0, 1.0).at[11].set(3.0)
    ones = jax.tree.map(jnp.ones_like, cloud)
    state = splat.init_fit_state(cloud._replace(opacity_logits=logits), jnp.arange(count) != 10)
    return state._replace(mu=ones, nu=ones)


def test_faint_gaussians_move_onto_visible_ones():
    state = make_state()
    after = jax.jit(relocate_faint, static_argnames="config")(jax.random.key(0), state, CONFIG)
    np.testing.assert_array_equal(after.alive, state.alive)
    places = [np.flatnonzero((state.cloud.means == m).all(1)) for m in after.cloud.means]
    assert all(len(p) == 1 for p in places)
    source = np.concatenate(places)
    assert (source[:5] > 4).all()
    assert 10 not in source[:5]  # not alive
    np.testing.assert_array_equal(source[5:], np.arange(5, 12))
    opacity, before = (jax.nn.sigmoid(s.cloud.opacity_logits) for s in (after, state))
    for place in set(source[:5].tolist()):
        rows = np.flatnonzero(source == place)
        stacked = 1 - np.prod(1 - opacity[rows])
        np.testing.assert_allclose(stacked, before[place], rtol=1e-4)
        assert not after.mu.means[rows].any()
    alone = [n for n in range(5, 12) if n not in source[:5]]
    for x, y in zip(after.cloud, state.cloud, strict=True):
        np.testing.assert_array_equal(x[jnp.array(alone)], y[jnp.array(alone)])
    assert after.mu.means[jnp.array(alone)].all()


def test_nothing_visible_moves_nothing():
    state = make_state()
    state = state._replace(cloud=state.cloud._replace(opacity_logits=jnp.full(12, -9.0)))
    after = relocate_faint(jax.random.key(0), state, CONFIG)
    np.testing.assert_array_equal(after.cloud.means, state.cloud.means)


def test_noise_moves_the_faint_alone():
    state = make_state()
    after = jiggle_means(jax.random.key(0), state, jnp.float32(1e-5), CONFIG)
    moved = np.abs(after.cloud.means - state.cloud.means).max(1)
    assert (moved[:5] > 1e-5).all()
    assert (moved[5:] < 1e-6 + 1e-4 * moved[:5].max()).all()


def test_refuses_another_strategy():
    config = splat.FitConfig(strategy="none")
    with pytest.raises(ValueError, match="strategy must be one of default, mcmc, got 'none'"):
        splat.fit_states(jax.random.key(0), jnp.zeros((1, 8, 8, 4)), None, make_state(), config)
