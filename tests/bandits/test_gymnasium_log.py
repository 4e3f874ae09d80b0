import jax
import numpy as np
import pytest

from jaxlab import bandits
from jaxlab.bandits.gymnasium_log import (
    cartpole_act,
    cartpole_policies,
    log_episodes,
    pendulum_act,
)

gymnasium = pytest.importorskip("gymnasium")


def test_each_step_is_that_of_a_single_environment():
    """Every logged transition and every end, against one environment set to the logged state."""
    policies = cartpole_policies(np.random.default_rng(0), 3)
    policies[:, 4] = 0  # no random actions
    log = log_episodes("CartPole-v1", cartpole_act(policies), 3, 2, seed=5)
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()
    for policy, episode in np.ndindex(3, 2):
        seen, length = log.observations[policy, episode], log.lengths[policy, episode]
        assert log.returns[policy, episode] == length  # a reward of 1 a step
        assert (seen[length:] == 0).all()
        for step in range(length):
            action = log.actions[policy, episode, step]
            assert action == (seen[step] @ policies[policy, :4] > 0)
            env.state = seen[step].astype(np.float64)
            env.steps_beyond_terminated = None
            following, _, ended, *_ = env.step(int(action))
            assert ended == (step == length - 1 and length < 500)
            if step < length - 1:
                np.testing.assert_allclose(following, seen[step + 1], atol=1e-5)


def test_strength_shows_and_seeds_repeat():
    policies = cartpole_policies(np.random.default_rng(1), 40)
    first, again = (log_episodes("CartPole-v1", cartpole_act(policies), 40, 2, 3) for _ in range(2))
    np.testing.assert_array_equal(first.returns, again.returns)
    strong = policies[:, 4] < np.median(policies[:, 4])
    assert first.returns[strong].mean() > 2 * first.returns[~strong].mean()


def test_pendulum_controllers_are_those_of_the_jax_pendulum():
    policies = bandits.pendulum_policies(jax.random.key(0), 8)
    log = log_episodes("Pendulum-v1", pendulum_act(policies), 8, 6, seed=0)
    assert (log.lengths == 200).all()
    twin = bandits.pendulum_returns(jax.random.key(1), policies, 200)
    error = np.sqrt(np.asarray(twin).var(1) * (1 / 6 + 1 / 200))
    assert (np.abs(log.returns.mean(1) - twin.mean(1)) < 4 * error + 5).all()


def test_refuses():
    with pytest.raises(ValueError, match="num_policies and num_episodes must be >= 1, got 0 and 1"):
        log_episodes("CartPole-v1", lambda *_: None, 0, 1, 0)
    with pytest.raises(ValueError, match="num_policies must be >= 1, got 0"):
        cartpole_policies(np.random.default_rng(0), 0)
