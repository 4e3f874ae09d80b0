import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import bandits


def test_statistics_against_numpy():
    rng = np.random.default_rng(0)
    actions, rewards = rng.integers(0, 5, 100), rng.normal(size=100)
    actions[actions == 3] = 2  # nobody pulls arm 3
    stats = bandits.arm_stats(actions, rewards, 5)
    residual, freedom = 0.0, 0
    for arm in range(5):
        mine = rewards[actions == arm]
        assert stats.count[arm] == len(mine)
        if len(mine):
            np.testing.assert_allclose(stats.mean[arm], mine.mean(), rtol=1e-5)
            residual += np.square(mine - mine.mean()).sum()
            freedom += len(mine) - 1
    assert stats.mean[3] == 0
    assert stats.se2[3] == np.inf
    np.testing.assert_allclose(stats.noise_var, residual / freedom, rtol=1e-5)
    np.testing.assert_allclose(stats.se2[0], stats.noise_var[0] / stats.count[0], rtol=1e-6)


def test_given_noise_and_dtype():
    stats = bandits.arm_stats([0, 1], [1, 2], 2, sigma=[0.5, 2.0])
    np.testing.assert_allclose(stats.noise_var, [0.25, 4.0])
    assert stats.mean.dtype == jnp.float32
    with jax.enable_x64(True):
        assert bandits.arm_stats([0], np.ones(1), 1, sigma=1.0).se2.dtype == jnp.float64


def test_returns_are_arms():
    returns = np.array([[1.0, 3.0, np.nan], [5.0, np.nan, np.nan], [0.0, 0.0, 3.0]])
    mask = np.isfinite(returns)
    stats = bandits.returns_to_arms(returns, mask)
    np.testing.assert_allclose(stats.mean, [2.0, 5.0, 1.0])
    np.testing.assert_array_equal(stats.count, [2, 1, 3])
    np.testing.assert_allclose(stats.noise_var, (2.0 + 6.0) / 3)
    np.testing.assert_allclose(bandits.returns_to_arms(np.ones((2, 3)), sigma=2.0).se2, 4 / 3)


def test_jit_and_vmap():
    actions = np.array([[0, 1, 1], [1, 0, 0]])
    rewards = np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 2.0]], np.float32)
    many = jax.jit(jax.vmap(lambda a, r: bandits.arm_stats(a, r, 2, 1.0)))(actions, rewards)
    np.testing.assert_allclose(many.mean, [[1.0, 3.0], [1.5, 0.0]])
    pooled = jax.jit(lambda a, r: bandits.arm_stats(a, r, 2))(actions[0], rewards[0])
    np.testing.assert_allclose(pooled.noise_var, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bandits.arm_stats([0.0], [1.0], 1), TypeError, "actions must be integers"),
        (lambda: bandits.arm_stats([0, 2], [1.0, 1], 2), ValueError, r"\[0, 2\), got 0 to 2"),
        (lambda: bandits.arm_stats([-1], [1.0], 2), ValueError, r"got -1 to -1"),
        (lambda: bandits.arm_stats([0], [1.0, 2.0], 2), ValueError, r"\(1,\) and \(2,\)"),
        (lambda: bandits.arm_stats(np.zeros(0, int), [], 2), ValueError, "log is empty"),
        (lambda: bandits.arm_stats([], [], 2), ValueError, "log is empty"),
        (lambda: bandits.arm_stats([0], [np.nan], 2), ValueError, "rewards hold NaN"),
        (lambda: bandits.arm_stats([0, 1], [1.0, 2.0], 2), ValueError, "pass sigma"),
        (lambda: bandits.arm_stats([0], [1.0], 0), ValueError, "num_arms must be >= 1"),
        (lambda: bandits.arm_stats([0], [1.0], 1, sigma=0.0), ValueError, "sigma must be positive"),
        (lambda: bandits.arm_stats([0], [1.0], 1, sigma=np.inf), ValueError, "sigma must be pos"),
        (lambda: bandits.arm_stats([0], [1.0], 2, sigma=np.ones(3)), ValueError, r"shape \(3,\)"),
        (lambda: bandits.returns_to_arms(np.ones(3)), ValueError, r"\[K, n\], got shape \(3,\)"),
        (lambda: bandits.returns_to_arms(np.ones((2, 2)), np.ones(2)), ValueError, "shapes must"),
        (lambda: bandits.returns_to_arms([[np.nan, 1.0]]), ValueError, "returns hold NaN"),
        (lambda: bandits.returns_to_arms([[1.0]], [[False]]), ValueError, "masked out"),
        (lambda: bandits.good_bad_instance(jax.random.key(0), 0), ValueError, "num_arms"),
        (lambda: bandits.good_bad_instance(jax.random.key(0), 3, 1.5), ValueError, "good_fraction"),
        (lambda: bandits.pendulum_policies(jax.random.key(0), 3, -1), ValueError, "good_fraction"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_instances():
    instance = bandits.good_bad_instance(jax.random.key(0), 1001, 0.3)
    np.testing.assert_array_equal(instance.mean, np.arange(1001) < 300)
    good, bad = instance.stats.mean[:300], instance.stats.mean[300:]
    assert ((good >= 0.5) & (good <= 1.5)).all()
    assert abs(bad.mean()) < 0.06
    assert abs(bad.std() - 0.5) < 0.05
    np.testing.assert_allclose(instance.stats.se2, 0.25)
    traced = jax.jit(lambda share: bandits.good_bad_instance(jax.random.key(0), 1001, share))
    np.testing.assert_array_equal(traced(0.3).stats.mean, instance.stats.mean)
    stats = bandits.draw_stats(jax.random.key(0), np.arange(3.0), 0.5, np.array([4, 0, 1]))
    assert stats.mean[1] == 0
    draws = jax.vmap(lambda k: bandits.draw_stats(k, np.ones(2), 0.5, 4).mean)(
        jax.random.split(jax.random.key(1), 20_000)
    )
    np.testing.assert_allclose(draws.var(0), 0.125, rtol=0.05)
