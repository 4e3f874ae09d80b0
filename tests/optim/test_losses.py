import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import optim
from tests.optim import reference

CASES = [(name, 1.0) for name in optim.LOSSES] + [("polynomial", 4.0), ("polynomial", 0.5)]


@pytest.mark.parametrize("name", optim.LOSSES)
def test_values_and_slopes_are_the_textbook_ones(name):
    z = np.linspace(-20, 20, 401)
    value, slope = reference.LOSSES[name]
    with jax.enable_x64(True):
        loss = optim.margin_loss(name)
        np.testing.assert_allclose(loss.log_value(z), np.log(value(z)), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(loss.log_slope(z), np.log(slope(z)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "degree"), CASES)
def test_slope_is_the_derivative_of_the_value(name, degree):
    with jax.enable_x64(True):
        loss = optim.margin_loss(name, degree=degree)
        z = jnp.linspace(-5.0, 5.0, 101)
        value_slope = jax.vmap(jax.grad(lambda z: -jnp.exp(loss.log_value(z))))(z)
        np.testing.assert_allclose(jnp.exp(loss.log_slope(z)), value_slope, rtol=1e-10)


@pytest.mark.parametrize(("name", "degree"), CASES)
@settings(max_examples=30, deadline=None)
@given(z=st.lists(st.floats(-300, 300), min_size=8, max_size=8))
def test_inverse_undoes_the_value(name, degree, z):
    with jax.enable_x64(True):
        loss = optim.margin_loss(name, degree=degree)
        z = np.array(z)
        log_v = loss.log_value(z)
        np.testing.assert_allclose(loss.inverse(log_v), z, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            loss.log_inverse_slope(log_v), -loss.log_slope(z), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize(("name", "degree"), CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_every_function_and_derivative_is_finite_at_any_scale(name, degree, dtype):
    with jax.enable_x64(True):
        loss = optim.margin_loss(name, degree=degree)
        z = jnp.array([-1e6, -1e3, -40, -30, -1, 0, 1, 30, 40, 1e3, 1e6], dtype)
        log_v = loss.log_value(z)
        for function, points in (
            (loss.log_value, z),
            (loss.log_slope, z),
            (loss.inverse, log_v),
            (loss.log_inverse_slope, log_v),
        ):
            assert function(points).dtype == dtype
            assert jnp.isfinite(function(points)).all()
            assert jnp.isfinite(jax.vmap(jax.grad(function))(points)).all()


def test_logistic_far_from_zero_in_float32():
    z = np.array([-50, -1, 0, 5, 29, 31, 80, 1e4], np.float32)
    exact = z.astype(np.float64)
    log_value = np.where(z > 30, -exact, np.log(-scipy.special.log_expit(np.minimum(exact, 30))))
    loss = optim.margin_loss("logistic")
    np.testing.assert_allclose(loss.log_value(z), log_value, rtol=3e-6)
    np.testing.assert_allclose(loss.log_slope(z), scipy.special.log_expit(-exact), rtol=3e-6)


@pytest.mark.parametrize("name", ["flat_exponential", "polynomial"])
def test_one_sided_derivative_at_the_kink(name):
    loss = optim.margin_loss(name, degree=3.0)
    slope = float(jnp.exp(loss.log_slope(0.0)))
    assert slope == pytest.approx(1.0 if name == "flat_exponential" else 3.0)
    assert float(jax.grad(loss.log_value)(0.0)) == pytest.approx(-slope)


@pytest.mark.parametrize("name", optim.LOSSES)
def test_log_risk_is_the_log_of_the_weighted_mean(name, rng):
    z = rng.normal(size=(3, 7)) * 5
    weight = rng.integers(0, 4, 7)
    expected = np.log(np.average(reference.LOSSES[name][0](z), axis=1, weights=weight))
    with jax.enable_x64(True):
        np.testing.assert_allclose(optim.log_risk(z, name, weight), expected, rtol=1e-12)
        np.testing.assert_allclose(
            optim.log_risk(z, name), np.log(reference.LOSSES[name][0](z).mean(axis=1)), rtol=1e-12
        )
        repeated = np.repeat(z, weight, axis=1)
        np.testing.assert_allclose(optim.log_risk(repeated, name), expected, rtol=1e-12)


def test_a_risk_of_exp_minus_a_million_is_an_ordinary_number():
    z = jnp.full(5, 1e6)
    for name in ("logistic", "exponential", "flat_exponential"):
        assert float(optim.log_risk(z, name)) == -1e6
        assert float(optim.phi(z, name)) == -1e6
    gradient = jax.grad(lambda z: optim.log_risk(z, "logistic"))(z)
    np.testing.assert_allclose(gradient, -0.2)


@pytest.mark.parametrize("name", optim.LOSSES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_gradients_of_log_risk_are_finite(name, scale, rng):
    z = jnp.asarray(rng.normal(size=20) * scale, jnp.float32)
    assert jnp.isfinite(jax.grad(lambda z: optim.log_risk(z, name))(z)).all()
    weighted = jax.grad(lambda z: optim.log_risk(z, name, jnp.arange(20.0)))(z)
    assert jnp.isfinite(weighted).all()
    assert weighted[0] == 0


@pytest.mark.parametrize("name", optim.LOSSES)
def test_gradient_matches_finite_differences(name, rng):
    z = rng.normal(size=6)
    with jax.enable_x64(True):
        jax.test_util.check_grads(lambda z: optim.phi(z, name), (z,), order=1, modes=["rev"])


def test_phi_is_convex_for_the_exponential_and_not_for_the_mean_of_logistic_losses():
    def phi_at(loss, v):
        return float(optim.phi(jnp.array([50.0] * 9 + [-v]), loss))

    assert phi_at("logistic", 10.0) > (phi_at("logistic", 0.0) + phi_at("logistic", 20.0)) / 2
    middle, ends = (
        phi_at("exponential", 10.0),
        (phi_at("exponential", 0.0), phi_at("exponential", 20.0)),
    )
    assert middle <= sum(ends) / 2 + 1e-5


def test_one_degree_is_one_loss():
    assert optim.margin_loss("polynomial", degree=2) is optim.margin_loss("polynomial", degree=2.0)
    assert hash(optim.margin_loss("logistic")) == hash(optim.margin_loss("logistic"))


def test_bad_input():
    with pytest.raises(ValueError, match=r"loss must be one of logistic, .* got 'hinge'"):
        optim.margin_loss("hinge")
    with pytest.raises(ValueError, match="loss must be one of"):
        optim.log_risk(jnp.zeros(3), "hinge")
    for degree in (0, -1.0):
        with pytest.raises(ValueError, match=f"degree must be positive, got {degree}"):
            optim.margin_loss("polynomial", degree=degree)
    with pytest.raises(ValueError, match=r"sample_weight .*\(3,\), got \(2,\)"):
        optim.log_risk(jnp.zeros(3), "logistic", jnp.ones(2))
