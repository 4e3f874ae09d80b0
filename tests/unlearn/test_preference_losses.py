import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxlab import unlearn

LOGP = st.floats(-300, -0.01)
BETA = st.sampled_from([0.01, 0.1, 1.0, 4.5])


@hypothesis.given(LOGP, LOGP, LOGP, LOGP, BETA, st.integers(1, 200), st.floats(0, 3))
def test_formulas_as_the_papers_write_them(a, b, c, d, beta, length, gamma):
    def log_sigmoid(z):
        return -np.logaddexp(0, -np.float64(z))

    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)
    close(unlearn.npo_loss(a, b, beta=beta), -2 / beta * log_sigmoid(-beta * (a - b)))
    close(
        unlearn.simnpo_loss(a, length, beta=beta, gamma=gamma),
        -2 / beta * log_sigmoid(-beta / length * a - gamma),
    )
    margin = beta * ((a - c) - (b - d))
    close(unlearn.dpo_loss(a, b, c, d, beta=beta), -2 / beta * log_sigmoid(margin))
    level = np.float32(beta * (c - d))
    close(
        unlearn.kto_loss(a, b, level, beta=beta),
        -2 / beta * log_sigmoid(np.float64(level) - beta * (a - b)),
    )
    assert unlearn.npo_loss(a, b, beta=beta) >= 0
    assert unlearn.simnpo_loss(a, length, beta=beta, gamma=gamma) >= 0


@hypothesis.given(LOGP, LOGP, BETA, st.integers(1, 200), st.floats(0, 3))
def test_weights_are_the_derivatives(logp, ref, beta, length, gamma):
    slope = jax.grad(lambda x: unlearn.npo_loss(x, ref, beta=beta))(logp)
    weight = unlearn.npo_weight(logp, ref, beta=beta)
    np.testing.assert_allclose(slope, weight, rtol=1e-4, atol=1e-7)
    assert 0 <= weight <= 2
    slope = jax.grad(lambda x: unlearn.simnpo_loss(x, length, beta=beta, gamma=gamma))(logp)
    weight = unlearn.simnpo_weight(logp, length, beta=beta, gamma=gamma)
    np.testing.assert_allclose(slope, weight, rtol=1e-4, atol=1e-7)
    assert 0 <= weight <= 2 / length


def test_gradients_of_dpo_and_kto():
    gradient = jax.grad(functools.partial(unlearn.dpo_loss, beta=0.3), argnums=(0, 1))
    win, lose = gradient(-3.0, -5.0, -4.0, -4.5)
    expected = 2 * jax.nn.sigmoid(-0.3 * ((-3 + 4) - (-5 + 4.5)))
    np.testing.assert_allclose([win, lose], [-expected, expected], rtol=1e-6)
    slope = jax.grad(lambda x: unlearn.kto_loss(x, -4.0, 0.2, beta=0.3))(-3.0)
    np.testing.assert_allclose(slope, 2 * jax.nn.sigmoid(0.3 - 0.2), rtol=1e-6)


def test_kto_reference_is_the_mean_log_ratio_without_gradient():
    logp, ref = jnp.array([-3.0, -5.0]), jnp.array([-4.0, -4.0])
    np.testing.assert_allclose(unlearn.kto_reference(logp + 1, ref, beta=0.5), 0.5)
    slope = jax.grad(lambda x: unlearn.kto_reference(x, ref, beta=0.5))(logp)
    np.testing.assert_array_equal(slope, 0)


def test_half_precision_is_computed_in_float32():
    logp, ref = (jnp.array([x], jnp.bfloat16) for x in (-200.0, -150.0))
    for got, want in (
        (unlearn.ga_loss(logp), -200),
        (unlearn.npo_loss(logp, ref, beta=0.1), 20 * np.log1p(np.exp(-5))),
        (unlearn.simnpo_loss(logp, jnp.array([10]), beta=0.1), 20 * np.log1p(np.exp(-2))),
        (unlearn.kto_reference(logp, ref, beta=0.1), -5),
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_ga_is_the_log_probability():
    np.testing.assert_array_equal(unlearn.ga_loss(jnp.array([-2.0, -3.0])), [-2, -3])


def test_at_the_reference_the_weight_is_one():
    logp = jnp.array([-1.0, -200.0])
    np.testing.assert_array_equal(unlearn.npo_weight(logp, logp, beta=0.1), 1)


def test_small_beta_is_gradient_ascent():
    with jax.enable_x64(True):
        logp, ref, beta = -3.0, -2.0, 1e-6
        shifted = unlearn.npo_loss(logp, ref, beta=beta) - 2 / beta * np.log(2)
        np.testing.assert_allclose(shifted, logp - ref, rtol=1e-5)
        np.testing.assert_allclose(unlearn.npo_weight(logp, ref, beta=beta), 1, rtol=1e-5)
        weight = unlearn.simnpo_weight(logp, 7, beta=beta)
        np.testing.assert_allclose(weight, 1 / 7, rtol=1e-5)


def test_a_larger_reference_weakens_the_gradient():
    weights = unlearn.npo_weight(jnp.full(3, -10.0), jnp.array([-5.0, -10.0, -15.0]), beta=0.1)
    assert weights[0] < weights[1] < weights[2]


def test_length_does_not_matter_to_simnpo_and_does_to_npo_both_ways():
    """One parameter per example, log pi = |y| theta: steps until theta has fallen by `drop`."""
    lengths = jnp.array([5.0, 20.0, 80.0])

    def falls(loss, lr=1e-3, steps=4000):
        def step(theta, _):
            # The gradient by the log-probability per token, scaled to the token's own parameter.
            slope = jax.grad(lambda t: loss(lengths * t, lengths).sum())(theta)
            theta = theta - lr * slope
            return theta, theta

        path = jax.lax.scan(step, jnp.full(3, -0.1), length=steps)[1]
        return lambda drop: np.argmax(np.asarray(path) <= -0.1 - drop, axis=0)

    def npo(logp, length):
        return unlearn.npo_loss(logp, -0.1 * length, beta=0.5)

    def simnpo(logp, length):
        return unlearn.simnpo_loss(logp, length, beta=2.5)

    simple, preference = falls(simnpo), falls(npo)
    assert len(set(simple(0.6))) == 1
    small, large = preference(0.02), preference(0.6)
    assert small[0] > small[1] >= small[2]  # long answers begin to fall first
    assert 0 < large[0] < large[1]  # and are given up first,
    assert large[2] == 0  # here before they have fallen as far


@pytest.mark.parametrize("size", [1e4, 1e5])
def test_extreme_log_probabilities_stay_finite(size):
    logp, other = jnp.array([-size, 0.0, -size]), jnp.array([0.0, -size, -size])
    length = jnp.array([1, 3, 200])
    losses = {
        "npo": lambda x: unlearn.npo_loss(x, other, beta=1.0),
        "simnpo": lambda x: unlearn.simnpo_loss(x, length, beta=4.5, gamma=1.0),
        "dpo": lambda x: unlearn.dpo_loss(x, other, other, x, beta=1.0),
        "kto": lambda x: unlearn.kto_loss(x, other, jnp.float32(size), beta=1.0),
    }
    for name, loss in losses.items():
        value, slope = jax.value_and_grad(lambda x, loss=loss: loss(x).sum())(logp)
        assert np.isfinite(value), name
        assert np.isfinite(slope).all(), name
    assert np.isfinite(unlearn.npo_weight(logp, other, beta=1.0)).all()


def test_traced_beta_compiles_and_agrees():
    got = jax.jit(lambda beta: unlearn.npo_loss(-3.0, -2.0, beta=beta))(0.1)
    np.testing.assert_allclose(got, unlearn.npo_loss(-3.0, -2.0, beta=0.1), rtol=1e-6)


@pytest.mark.parametrize("beta", [0, -1.0, float("nan")])
def test_refuses_beta(beta):
    message = f"beta must be > 0, got {beta}"
    calls = [
        lambda: unlearn.npo_loss(0.0, 0.0, beta=beta),
        lambda: unlearn.npo_weight(0.0, 0.0, beta=beta),
        lambda: unlearn.simnpo_loss(0.0, 1, beta=beta),
        lambda: unlearn.simnpo_weight(0.0, 1, beta=beta),
        lambda: unlearn.dpo_loss(0.0, 0.0, 0.0, 0.0, beta=beta),
        lambda: unlearn.kto_loss(0.0, 0.0, 0.0, beta=beta),
        lambda: unlearn.kto_reference(jnp.zeros(1), jnp.zeros(1), beta=beta),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_refuses_gamma_and_shapes():
    with pytest.raises(ValueError, match="gamma must be >= 0, got -1"):
        unlearn.simnpo_loss(0.0, 1, beta=1.0, gamma=-1)
    with pytest.raises(ValueError, match=r"logp \(2,\), ref_logp \(3,\)"):
        unlearn.npo_loss(jnp.zeros(2), jnp.zeros(3), beta=1.0)
    with pytest.raises(ValueError, match=r"logp \(2,\), length \(3,\)"):
        unlearn.simnpo_loss(jnp.zeros(2), jnp.ones(3), beta=1.0)
    with pytest.raises(ValueError, match=r"win_logp \(2,\), lose_logp \(3,\)"):
        unlearn.dpo_loss(jnp.zeros(2), jnp.zeros(3), jnp.zeros(2), jnp.zeros(3), beta=1.0)
