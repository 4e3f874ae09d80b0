import chex
import jax
import numpy as np
import optax
import pytest

from jaxlab import rl
from tests.rl import reference
from tests.rl.problem import ACT, OBS, ROWS, batch

EPS = np.random.default_rng(3).normal(size=(ROWS, ACT)).astype(np.float32)


def make(config):
    optimizers = rl.TD3Optimizers(optax.sgd(0.01), optax.sgd(0.02))
    s = rl.td3_init(jax.random.key(0), config, optimizers)
    return s._replace(target_actor=jax.tree.map(lambda x: 0.9 * x, s.actor)), optimizers


def test_targets_against_numpy():
    config = rl.TD3Config(OBS, ACT, (8, 6), policy_noise=0.9)
    s, _ = make(config)
    b = jax.tree.map(lambda x: x.astype(np.float64), batch())
    x = reference.trunk(s.target_actor, b.next_obs, 2)
    action = np.tanh(reference.dense(s.target_actor["mean"], x))
    action = np.clip(action + np.clip(0.9 * EPS, -0.5, 0.5), -1, 1)
    q = reference.critics(s.target_critic, b.next_obs, action, 2).min(0)
    want = b.reward + 0.99 * (1 - b.terminated) * q
    got = rl.td3_targets(s.target_critic, s.target_actor, batch(), EPS, config)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_actor_and_targets_move_when_it_is_their_turn():
    config = rl.TD3Config(OBS, ACT, (8, 6), policy_delay=2, tau=0.5)
    s, optimizers = make(config)
    step = jax.jit(rl.td3_step, static_argnums=(3, 4))
    first, metrics = step(s, batch(), EPS, config, optimizers)
    chex.assert_trees_all_equal(first.actor, s.actor)
    chex.assert_trees_all_equal(first.target_critic, s.target_critic)
    assert metrics["actor_loss"] == 0
    second, metrics = step(first, batch(), EPS, config, optimizers)
    assert second.step == 2
    # The actor's gradient is taken at the new critics, through the first of them alone.
    obs = batch().obs.astype(np.float64)
    loss, gradient = reference.td3_actor(s.actor, second.critic, obs, 2)
    chex.assert_trees_all_equal_shapes(gradient, s.actor)
    actor = jax.tree.map(lambda p, g: p - 0.01 * g, s.actor, gradient)
    chex.assert_trees_all_close(second.actor, actor, atol=1e-6)
    target = jax.tree.map(lambda old, new: (old + new) / 2, s.target_actor, actor)
    chex.assert_trees_all_close(second.target_actor, target, atol=1e-6)
    np.testing.assert_allclose(metrics["actor_loss"], loss, rtol=1e-5, atol=1e-6)
    alone = rl.td3_actor_loss(s.actor, second.critic, batch(), config)
    np.testing.assert_allclose(alone, loss, rtol=1e-5, atol=1e-6)


def test_ddpg_is_a_case_of_it():
    config = rl.ddpg_config(OBS, ACT, hidden=(8,), tau=0.1)
    assert (config.n_critics, config.policy_noise, config.policy_delay) == (1, 0.0, 1)
    s, optimizers = make(config)
    step = jax.jit(rl.td3_step, static_argnums=(3, 4))
    one, _ = step(s, batch(), EPS, config, optimizers)
    other, _ = step(s, batch(), -EPS, config, optimizers)
    chex.assert_trees_all_equal(one, other)
    assert not np.allclose(one.actor["mean"]["kernel"], s.actor["mean"]["kernel"])


def test_refuses():
    with pytest.raises(ValueError, match="policy_delay must be >= 1, got 0"):
        rl.TD3Config(3, 1, policy_delay=0)
    config = rl.TD3Config(OBS, ACT, (8,))
    s, _ = make(config)
    with pytest.raises(ValueError, match=r"eps has shape \(3, 2\), expected \(12, 2\)"):
        rl.td3_step(s, batch(), EPS[:3], config)
    with pytest.raises(ValueError, match=r"batch.next_obs has shape"):
        rl.td3_step(s, batch()._replace(next_obs=np.zeros((12, 1))), EPS, config)
