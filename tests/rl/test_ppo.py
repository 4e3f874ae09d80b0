import numpy as np
import pytest

from jaxlab import rl


def test_gae_by_hand():
    rng = np.random.default_rng(0)
    T, N = 12, 3
    reward, value, next_value = rng.normal(size=(3, T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.2
    want = np.zeros((T, N))
    for n in range(N):
        later = 0.0
        for t in reversed(range(T)):
            alive = not terminated[t, n]
            delta = reward[t, n] + 0.9 * alive * next_value[t, n] - value[t, n]
            later = delta + (0.9 * 0.8 * later if alive and not truncated[t, n] else 0.0)
            want[t, n] = later
    advantage, returns = rl.gae(reward, value, next_value, terminated, truncated, 0.9, 0.8)
    np.testing.assert_allclose(advantage, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(returns, want + value, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"one shape \[T, N\], got"):
        rl.gae(reward[:3], value, next_value, terminated, truncated, 0.9, 0.8)


def test_clipped_surrogate():
    old = np.zeros(4)
    ratio = np.array([0.5, 0.95, 1.5, 1.5])
    advantage = np.array([-1.0, 2.0, 1.0, -1.0])
    want = -np.mean([-0.8, 1.9, 1.2, -1.5])
    np.testing.assert_allclose(
        rl.ppo_policy_loss(np.log(ratio), old, advantage, 0.2), want, rtol=1e-6
    )
