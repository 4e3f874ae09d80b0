import jax
import numpy as np
import pytest

from jaxlab import bandits
from jaxlab.bandits.pendulum import controller, pendulum_step


def test_returns_are_those_of_the_specification():
    policies = bandits.pendulum_policies(jax.random.key(0), 40)
    returns = bandits.pendulum_returns(jax.random.key(1), policies, 50)
    assert returns.shape == (40, 50)
    np.testing.assert_allclose(returns[:20].mean(), -161, atol=12)
    np.testing.assert_allclose(returns[20:].mean(), -1050, atol=120)
    assert (policies[20:, 0] == 0).all()


def test_dynamics_against_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("Pendulum-v1").unwrapped
    gains = bandits.pendulum_policies(jax.random.key(2), 1)[0]
    step, act = jax.jit(pendulum_step), jax.jit(controller)
    for seed in range(3):
        env.reset(seed=seed)
        theta, speed = (np.float32(x) for x in env.state)
        for _ in range(60):
            torque = act(gains, theta, speed)
            _, want, *_ = env.step(np.array([torque]))
            (theta, speed), reward = step(theta, speed, torque)
            np.testing.assert_allclose(reward, want, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(speed, env.state[1], rtol=1e-3, atol=1e-3)
            theta, speed = (np.float32(x) for x in env.state)


def test_refuses():
    with pytest.raises(ValueError, match=r"policies must be \[K, 4\], got shape \(3,\)"):
        bandits.pendulum_returns(jax.random.key(0), np.ones(3), 1)
    with pytest.raises(ValueError, match="must be >= 1, got 0 and 200"):
        bandits.pendulum_returns(jax.random.key(0), np.ones((1, 4)), 0)
