import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.device_envs import PendulumState

ENV = rl.make_env("pendulum")
CONFIG = rl.SACConfig(3, 1, (16, 16))
RUN = rl.OnDeviceConfig(n_envs=4, batch_size=8, updates_per_iter=2, capacity=64, warmup_steps=12)


def rows(values):
    """A transition whose every entry is the row's value."""
    values = np.asarray(values, np.float32)
    return rl.Transition(
        np.tile(values[:, None], 2), values[:, None], values, np.tile(values[:, None], 2), values
    )


def test_the_ring_is_first_in_first_out():
    ring = rl.replay_init(7, 2, 1)
    held = []
    for k in (3, 3, 2, 7, 1, 5, 6, 4):
        new = list(range(100 * k, 100 * k + k))
        held = (held + new)[-7:]
        ring = rl.replay_add(ring, rows(new))
        drawn = rl.replay_sample(jax.random.key(k), ring, 400)
        assert set(np.asarray(drawn.reward)) == set(held)
        np.testing.assert_array_equal(drawn.obs[:, 0], drawn.reward)
        np.testing.assert_array_equal(drawn.terminated, drawn.action[:, 0])
    assert int(ring.added) < 14
    with pytest.raises(ValueError, match="8 rows do not fit into a ring of 7"):
        rl.replay_add(ring, rows(range(8)))
    narrow = rows(range(2))
    with pytest.raises(ValueError, match=r"batch.obs has shape \(2, 1\), expected \(2, 2\)"):
        rl.replay_add(ring, narrow._replace(obs=narrow.obs[:, :1]))
    with pytest.raises(ValueError, match="capacity must be >= 1, got 0"):
        rl.replay_init(0, 2, 1)


def test_draws_are_uniform():
    ring = rl.replay_add(rl.replay_init(50, 2, 1), rows(range(20)))
    drawn = np.asarray(rl.replay_sample(jax.random.key(0), ring, 20_000).reward)
    counts = np.bincount(drawn.astype(int), minlength=20)
    assert counts.size == 20
    assert (np.abs(counts - 1000) < 150).all()


def test_pendulum_is_that_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("Pendulum-v1")
    rng = np.random.default_rng(0)
    numpy_env = rl.make_vec_env("numpy:pendulum", 1)
    numpy_env.reset()
    for _ in range(20):
        env.reset()
        theta, speed = rng.uniform(-4, 4), rng.uniform(-8, 8)
        env.unwrapped.state = np.array([theta, speed])
        state = PendulumState(jnp.float32(theta), jnp.float32(speed), jnp.int32(0))
        numpy_env._theta, numpy_env._speed = np.float32([theta]), np.float32([speed])
        for _ in range(5):
            action = rng.uniform(-1.3, 1.3, 1).astype(np.float32)
            want, reward, *_ = env.step(np.clip(action, -1, 1) * 2)
            state, obs, ours, terminated, truncated = ENV.step(state, action)
            out = numpy_env.step(action[None])
            for got_obs, got_reward in ((obs, ours), (out.next_obs[0], out.reward[0])):
                np.testing.assert_allclose(got_obs, want, atol=2e-5)
                np.testing.assert_allclose(got_reward, reward, rtol=1e-4, atol=1e-4)
            assert not terminated
            assert not truncated


def test_an_episode_is_cut_at_two_hundred_steps():
    state, obs = ENV.reset(jax.random.key(0))
    assert abs(float(state.theta)) <= np.pi
    assert abs(float(state.speed)) <= 1
    np.testing.assert_allclose(obs, [np.cos(state.theta), np.sin(state.theta), state.speed])
    step = jax.jit(ENV.step)
    ends = []
    for _ in range(200):
        state, _, _, terminated, truncated = step(state, jnp.zeros(1))
        ends.append(bool(truncated))
        assert not terminated
    assert ends == [False] * 199 + [True]
    with pytest.raises(ValueError, match="env must be one of pendulum, got 'walker'"):
        rl.make_env("walker")


def test_iterations():
    start = rl.ondevice_init(jax.random.key(0), ENV, CONFIG, RUN)
    fresh = jax.tree.map(jnp.copy, start.learner)
    state, metrics = rl.ondevice_run(start, ENV, CONFIG, RUN, 2)
    chex.assert_trees_all_equal(start.learner, fresh)  # still there
    assert int(state.env_steps) == 8
    chex.assert_trees_all_equal(state.learner, fresh)  # still warming up
    assert (metrics["critic_loss"] == 0).all()
    state, metrics = rl.ondevice_run(state, ENV, CONFIG, RUN, 2)
    assert int(state.env_steps) == 16
    assert int(state.learner.step) == 4
    assert metrics["critic_loss"].shape == (2,)
    assert (metrics["critic_loss"] > 0).all()
    again = rl.ondevice_init(jax.random.key(0), ENV, CONFIG, RUN)
    for _ in range(2):
        again, _ = rl.ondevice_run(again, ENV, CONFIG, RUN, 2)
    chex.assert_trees_all_equal(again.learner, state.learner)


def test_what_is_stored_is_what_happened():
    state = rl.ondevice_init(jax.random.key(1), ENV, CONFIG, RUN)
    state, _ = rl.ondevice_run(state, ENV, CONFIG, RUN, 15)
    stored = state.replay.rows
    filled = slice(0, 60)
    theta = np.arctan2(stored.obs[filled, 1], stored.obs[filled, 0])
    before = PendulumState(jnp.asarray(theta), stored.obs[filled, 2], jnp.zeros(60, jnp.int32))
    _, next_obs, reward, *_ = jax.vmap(ENV.step)(before, stored.action[filled])
    np.testing.assert_allclose(next_obs, stored.next_obs[filled], atol=1e-4)
    np.testing.assert_allclose(reward, stored.reward[filled], atol=1e-3)
    # Successive steps of one environment hang together: n_envs rows further on.
    np.testing.assert_allclose(stored.obs[4:60], stored.next_obs[0:56], atol=1e-6)


def test_evaluation():
    actor = rl.sac_init(jax.random.key(0), CONFIG).actor
    returns = rl.evaluate_policy(jax.random.key(1), ENV, actor, CONFIG, 3)
    keys = jax.random.split(jax.random.key(1), 3)
    state, obs = ENV.reset(keys[2])
    total = 0.0
    for _ in range(200):
        action = rl.policy_act(actor, obs[None], CONFIG)[0]
        state, obs, reward, *_ = ENV.step(state, action)
        total += float(reward)
    assert returns[2] == pytest.approx(total, rel=1e-3)


def test_refuses():
    with pytest.raises(ValueError, match="capacity must be >= n_envs 16, got 8"):
        rl.OnDeviceConfig(capacity=8)
    with pytest.raises(ValueError, match="updates_per_iter must be >= 1, got 0"):
        rl.OnDeviceConfig(updates_per_iter=0)
    with pytest.raises(ValueError, match=r"config\.obs_dim is 5, the environment has 3"):
        rl.ondevice_init(jax.random.key(0), ENV, rl.SACConfig(5, 1), RUN)
