import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxlab import rl


@pytest.mark.parametrize(("mean", "log_std"), [(0.3, -0.5), (-1.2, 0.4), (2.0, -2.0)])
def test_density_integrates_to_one(mean, log_std):
    u = np.float32(np.linspace(mean - 9 * np.exp(log_std), mean + 9 * np.exp(log_std), 4001))
    ones = np.ones((u.size, 1), np.float32)
    density = np.exp(rl.squashed_log_prob(mean * ones, log_std * ones, u[:, None]))
    # d tanh(u) = du / cosh(u)^2
    assert np.trapezoid(density / np.cosh(u) ** 2, u) == pytest.approx(1, abs=1e-4)


def test_against_the_change_of_variables():
    rng = np.random.default_rng(0)
    mean, log_std, eps = rng.normal(size=(3, 20, 3))
    action, log_prob = rl.squash_sample(*map(jnp.float32, (mean, log_std, eps)))
    u = mean + np.exp(log_std) * eps
    want = stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log1p(-(np.tanh(u) ** 2))
    np.testing.assert_allclose(log_prob, want.sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(action, np.tanh(u), rtol=1e-5, atol=1e-6)
    again = rl.squashed_log_prob(*map(jnp.float32, (mean, log_std, u)))
    np.testing.assert_allclose(again, log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pre_tanh", [7.0, -7.0, 40.0, -40.0])
def test_exact_far_out(pre_tanh):
    def log_prob(u):
        return rl.squashed_log_prob(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.full((1, 1), u))[0]

    value, slope = jax.value_and_grad(log_prob)(pre_tanh)
    size = abs(pre_tanh)
    want = -(size**2) / 2 - 0.5 * np.log(2 * np.pi) + 2 * (size + np.log1p(np.exp(-2 * size)))
    assert value == pytest.approx(want - 2 * np.log(2), rel=1e-6)
    assert slope == pytest.approx(-pre_tanh + 2 * np.tanh(pre_tanh), rel=1e-5)
