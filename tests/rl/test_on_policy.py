import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.device_envs import PendulumState
from jaxlab.rl.on_policy import collect, label

ENV = rl.make_env("pendulum")
CONFIG = rl.PPOConfig(3, 1, (16, 16), gamma=0.9, actor_lr=1e-3, critic_lr=1e-3)
RUN = rl.OnPolicyConfig(n_envs=4, n_steps=8, n_epochs=2, n_minibatches=4)


def test_an_iteration_is_deterministic_and_counts():
    def twice(n_iters):
        state = rl.onpolicy_init(jax.random.key(0), ENV, CONFIG, RUN)
        for _ in range(2 // n_iters):
            state, metrics = rl.onpolicy_run(state, ENV, CONFIG, RUN, n_iters)
        return state, metrics

    (one, metrics), (other, _) = twice(1), twice(2)
    assert int(one.env_steps) == 2 * 4 * 8
    assert int(one.learner.step) == 2 * 2 * 4
    assert metrics["critic_loss"].shape == (1,)
    assert -17 < float(metrics["reward"][0]) < 0
    chex.assert_trees_all_close(one.learner, other.learner, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(twice(1)[0].learner, one.learner)


def test_what_is_collected_is_what_happened():
    state = rl.onpolicy_init(jax.random.key(1), ENV, CONFIG, RUN)
    collected = jax.jit(collect, static_argnums=(4, 5, 6))
    _, after, rollout = collected(
        jax.random.key(2), state.learner, state.env_states, state.obs, ENV, CONFIG, 210
    )
    obs, out = np.asarray(rollout.obs), rollout.out
    assert obs.shape == (210, 4, 3)
    ends = np.flatnonzero(np.asarray(out.truncated[:, 0]))
    assert ends.tolist() == [199]
    seen_next = np.concatenate([obs[1:], np.asarray(after)[None]])
    going = ~np.asarray(out.truncated)
    np.testing.assert_array_equal(seen_next[going], np.asarray(out.next_obs)[going])
    assert not np.allclose(seen_next[199], out.next_obs[199])
    before = PendulumState(
        jnp.arctan2(obs[..., 1], obs[..., 0]), obs[..., 2], jnp.zeros(obs.shape[:2], jnp.int32)
    )
    step = jax.vmap(jax.vmap(ENV.step))
    _, next_obs, reward, *_ = step(before, jnp.tanh(rollout.pre_tanh))
    np.testing.assert_allclose(next_obs, out.next_obs, atol=1e-4)
    np.testing.assert_allclose(reward, out.reward, atol=1e-3)

    rows = label(state.learner, rollout, CONFIG)
    value = rl.value_apply(state.learner.critic, rollout.obs, CONFIG)
    next_value = rl.value_apply(state.learner.critic, out.next_obs, CONFIG)
    advantage, return_ = rl.gae(
        out.reward, value, next_value, out.terminated, out.truncated, 0.9, 0.95
    )
    np.testing.assert_array_equal(rows.advantage, advantage.reshape(-1))
    np.testing.assert_array_equal(rows.return_, return_.reshape(-1))
    np.testing.assert_array_equal(rows.obs, obs.reshape(-1, 3))


def test_refuses():
    with pytest.raises(ValueError, match=r"n_minibatches must divide n_envs \* n_steps = 32"):
        rl.OnPolicyConfig(n_envs=4, n_steps=8, n_minibatches=5)
    with pytest.raises(ValueError, match="n_epochs must be >= 1, got 0"):
        rl.OnPolicyConfig(n_epochs=0)
    with pytest.raises(ValueError, match=r"config\.obs_dim is 5, the environment has 3"):
        rl.onpolicy_init(jax.random.key(0), ENV, rl.PPOConfig(5, 1), RUN)
