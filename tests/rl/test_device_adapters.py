"""Environments of other libraries on the device: against a library made up here, and the real."""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl import device_adapters, device_envs

ALGORITHM = {"hidden": (8, 8)}


class Place(NamedTuple):
    x: jax.Array
    time: jax.Array


class Line:
    """A point that an action in [-3, 1] moves; it falls off beyond 2, and has 5 steps."""

    def observation_space(self, params):
        return SimpleNamespace(low=-9.0, high=9.0, shape=(2,))

    def action_space(self, params):
        return SimpleNamespace(low=-3.0, high=1.0, shape=(1,))

    def reset_env(self, key, params):
        place = Place(jax.random.uniform(key), jnp.zeros((), jnp.int32))
        return jnp.stack([place.x, 0.0]), place

    def step_env(self, key, state, action, params):
        place = Place(state.x + action[0], state.time + 1)
        drawn = jax.random.uniform(key)
        return jnp.stack([place.x, drawn]), place, -place.x, abs(place.x) > 2, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode


@pytest.fixture
def line(monkeypatch):
    def make(name):
        if name != "Line":
            raise ValueError(f"{name} is not registered")
        return Line(), SimpleNamespace(max_steps_in_episode=5)

    monkeypatch.setitem(sys.modules, "gymnax", SimpleNamespace(make=make))
    device_envs.make_env.cache_clear()
    yield rl.make_env("gymnax:Line")
    device_envs.make_env.cache_clear()


def test_actions_are_scaled_and_ends_told_apart(line):
    assert (line.obs_dim, line.act_dim, line.max_steps) == (2, 1, 5)
    state, obs = line.reset(jax.random.key(0))
    start = float(obs[0])
    state, obs, reward, terminated, truncated = line.step(state, jnp.array([0.5]))
    np.testing.assert_allclose(obs[0], start + 0.0, atol=1e-6)  # the middle of [-3, 1] and 0.5 * 2
    np.testing.assert_allclose(reward, -obs[0])
    assert not terminated
    assert not truncated
    fallen = line.step(state, jnp.array([-9.0]))  # clipped to -1, which is -3
    np.testing.assert_allclose(fallen[1][0], start - 3, atol=1e-6)
    assert fallen[3]
    for _ in range(4):
        state, obs, _, terminated, truncated = line.step(state, jnp.array([0.5]))
    assert truncated
    assert not terminated


def test_each_step_draws_anew(line):
    state, _ = line.reset(jax.random.key(0))
    drawn = []
    for _ in range(3):
        state, obs, *_ = line.step(state, jnp.array([0.5]))
        drawn.append(float(obs[1]))
    assert len(set(drawn)) == 3


def test_it_trains(line):
    config = rl.SACConfig(2, 1, **ALGORITHM)
    layout = rl.OnDeviceConfig(n_envs=4, batch_size=8, capacity=64, warmup_steps=8)
    state = rl.ondevice_init(jax.random.key(0), line, config, layout)
    state, metrics = jax.jit(rl.ondevice_run, static_argnums=(1, 2, 3, 4))(
        state, line, config, layout, 4
    )
    assert int(state.learner.step) > 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(metrics))


def test_refuses(line):
    with pytest.raises(ValueError, match="gymnax knows no environment 'Nothing'"):
        rl.make_env("gymnax:Nothing")
    with pytest.raises(ValueError, match="env must be one of pendulum, got 'gym:Line'"):
        rl.make_env("gym:Line")


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(
        ImportError, match=r"gymnax is not installed: pip install .jaxlab\[device-envs\]"
    ):
        device_adapters.Gymnax("Pendulum-v1")


def test_the_real_gymnax():
    pytest.importorskip("gymnax", reason="gymnax is not installed: pip install jaxlab[device-envs]")
    env, ours = rl.make_env("gymnax:Pendulum-v1"), rl.make_env("pendulum")
    assert (env.obs_dim, env.act_dim, env.max_steps) == (3, 1, 200)
    state, obs = env.reset(jax.random.key(0))
    same = device_envs.PendulumState(state.env.theta, state.env.theta_dot, jnp.zeros((), jnp.int32))
    for action in (0.3, -1.0, 0.8):
        state, obs, reward, *_ = env.step(state, jnp.array([action]))
        same, want, wanted_reward, *_ = ours.step(same, jnp.array([action]))
        np.testing.assert_allclose(obs, want, atol=1e-4)
        np.testing.assert_allclose(reward, wanted_reward, rtol=1e-4)
    with pytest.raises(ValueError, match="the action space must be a flat Box"):
        rl.make_env("gymnax:CartPole-v1")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Brax warns of its own physics, and of what it calls
def test_the_real_brax():
    pytest.importorskip(
        "brax.envs", reason="Brax is not installed: pip install jaxlab[device-envs]"
    )
    env = rl.make_env("brax:inverted_pendulum")
    assert (env.obs_dim, env.act_dim, env.max_steps) == (4, 1, 1000)
    state, obs = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2))
    step = jax.jit(device_envs.step_and_renew, static_argnums=0)
    for number in range(80):
        state, obs, out = step(env, state, jnp.ones((2, 1)), jax.random.key(number))
        if out.terminated.any():
            break
    assert out.terminated.any()  # it falls, and starts anew
    assert abs(obs[out.terminated]).max() < 0.1
    with pytest.raises(ValueError, match="Brax knows no environment 'nothing'"):
        rl.make_env("brax:nothing")
