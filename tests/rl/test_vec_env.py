import sys

import numpy as np
import pytest

from jaxlab import rl


@pytest.mark.parametrize("env_id", ["numpy:pendulum", "gym:Pendulum-v1"])
def test_protocol_and_the_end_of_an_episode(env_id):
    if env_id.startswith("gym"):
        pytest.importorskip("gymnasium")
    env = rl.make_vec_env(env_id, 3, seed=4)
    assert (env.n_envs, env.obs_dim, env.act_dim) == (3, 3, 1)
    obs = env.reset()
    np.testing.assert_allclose(obs, rl.make_vec_env(env_id, 3, seed=4).reset())
    assert not np.allclose(obs[0], obs[1])
    for step in range(1, 202):
        out = env.step(np.full((3, 1), 0.5, np.float32))
        assert [x.dtype for x in out] == [np.float32, np.float32, bool, bool, np.float32]
        assert not out.terminated.any()
        assert out.truncated.all() == (step == 200)
        if step == 200:
            assert not np.allclose(out.obs, out.next_obs)  # a fresh start
            assert (np.abs(out.obs[:, 2]) <= 1).all()
        else:
            np.testing.assert_array_equal(out.obs, out.next_obs)
    env.close()


def test_gym_actions_are_scaled_to_the_bounds():
    gymnasium = pytest.importorskip("gymnasium")
    env = rl.make_vec_env("gym:Pendulum-v1", 1, seed=0)
    twin = gymnasium.make("Pendulum-v1")
    env.reset()
    twin.reset(seed=0)
    want = twin.step(np.float32([-1.0]))
    out = env.step(np.float32([[-0.5]]))
    np.testing.assert_allclose(out.next_obs[0], want[0], rtol=1e-5)
    assert out.reward[0] == pytest.approx(want[1], rel=1e-5)


def test_box2d_ends_where_the_lander_falls():
    pytest.importorskip("gymnasium")
    pytest.importorskip("Box2D", reason='Box2D is not installed: pip install "jaxlab[rl]"')
    env = rl.make_vec_env("gym:LunarLanderContinuous-v3", 2, seed=1)
    assert (env.obs_dim, env.act_dim) == (8, 2)
    env.reset()
    for _ in range(300):
        out = env.step(np.zeros((2, 2), np.float32))
        if out.terminated[0]:
            break
    assert out.terminated[0]
    assert not out.truncated[0]
    assert out.reward[0] == -100
    assert out.next_obs[0, 1] < 0.5 < out.obs[0, 1], "on the ground, then up again"
    env.close()


def test_terminal_states_are_told_from_limits():
    gymnasium = pytest.importorskip("gymnasium")

    class Short(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-9, 9, (2,))
        action_space = gymnasium.spaces.Box(0.0, 4.0, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.count = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.count += 1
            return np.full(2, self.count, np.float32), float(action[0]), self.count == 2, False, {}

    gymnasium.register("ShortForTests-v0", Short)
    env = rl.make_vec_env("gym:ShortForTests-v0", 2)
    env.reset()
    first, second = env.step(np.zeros((2, 1))), env.step(np.ones((2, 1)))
    np.testing.assert_array_equal(first.reward, [2, 2])
    np.testing.assert_array_equal(second.reward, [4, 4])
    assert second.terminated.all()
    assert not second.truncated.any()
    np.testing.assert_array_equal(second.next_obs, np.full((2, 2), 2))
    np.testing.assert_array_equal(second.obs, np.zeros((2, 2)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gymnasium says it before it refuses
@pytest.mark.parametrize(
    ("env_id", "n_envs", "message"),
    [
        ("numpy:walker", 1, "env_id must be numpy:pendulum or gym:ID, got 'numpy:walker'"),
        ("Pendulum-v1", 1, "env_id must be"),
        ("gym:", 1, "env_id must be"),
        ("numpy:pendulum", 0, "n_envs must be >= 1, got 0"),
        ("gym:Nothing-v0", 1, "gymnasium knows no environment 'Nothing-v0'"),
        ("gym:Pendulum-v0", 1, "gymnasium knows no environment 'Pendulum-v0'.*v1"),
        ("gym:no such", 1, "gymnasium knows no environment 'no such'"),
        ("gym:CartPole-v1", 1, r"the action space must be a flat Box, it is Discrete\(2\)"),
    ],
)
def test_refuses(env_id, n_envs, message):
    if env_id.startswith("gym:"):
        pytest.importorskip("gymnasium")
    with pytest.raises(ValueError, match=message):
        rl.make_vec_env(env_id, n_envs)


def test_refuses_actions():
    env = rl.make_vec_env("numpy:pendulum", 2)
    env.reset()
    with pytest.raises(ValueError, match=r"action has shape \(2,\), expected \(2, 1\)"):
        env.step(np.zeros(2))


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"pip install .jaxlab\[rl\]"):
        rl.make_vec_env("gym:Pendulum-v1", 1)
