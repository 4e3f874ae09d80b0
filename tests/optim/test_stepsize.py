import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import optim
from tests.optim import reference


@pytest.mark.parametrize("loss", optim.LOSSES)
@pytest.mark.parametrize("rule", ["risk", "potential", "constant"])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_the_textbook_ones(loss, rule, weighted, rng):
    z = rng.normal(size=9) * 3
    raw = rng.integers(0, 3, 9) if weighted else None
    a = np.full(9, 1 / 9) if raw is None else raw / raw.sum()
    expected = reference.update_weights(z, a, loss, rule)
    with jax.enable_x64(True):
        np.testing.assert_allclose(optim.update_weights(z, loss, rule, raw), expected, rtol=1e-10)


def test_l2_gives_the_weights_of_potential(rng):
    z = jnp.asarray(rng.normal(size=9))
    np.testing.assert_array_equal(
        optim.update_weights(z, "logistic", "l2"), optim.update_weights(z, "logistic", "potential")
    )


@pytest.mark.parametrize("loss", optim.LOSSES)
@settings(max_examples=40, deadline=None)
@given(z=st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8))
def test_potential_weights_are_probabilities(loss, z):
    p = optim.update_weights(jnp.array(z, jnp.float32), loss, "potential")
    assert (p >= 0).all()
    assert float(p.sum()) == pytest.approx(1, abs=0.3)  # a margin of 1e6 has an ulp of 0.06


@settings(max_examples=60, deadline=None)
@given(z=st.lists(st.floats(-50, 500), min_size=8, max_size=8))
def test_mass_of_the_risk_rule_is_at_most_one_for_logistic(z):
    with jax.enable_x64(True):
        assert optim.update_weights(np.array(z), "logistic", "risk").sum() <= 1 + 1e-9


def test_risk_and_potential_are_one_for_the_exponential_loss(rng):
    z = jnp.asarray(rng.normal(size=(4, 9)) * 100, jnp.float32)
    np.testing.assert_allclose(
        optim.update_weights(z, "exponential", "risk"),
        optim.update_weights(z, "exponential", "potential"),
        rtol=1e-4,
    )


def test_a_sample_of_weight_zero_gets_no_update_however_wrong_it_is():
    z = jnp.array([-1e4, 1e4, 1e4], jnp.float32)
    for rule in optim.RULES:
        p = optim.update_weights(z, "exponential", rule, jnp.array([0.0, 1.0, 1.0]))
        assert p[0] == 0
        assert jnp.isfinite(p).all()


def test_weights_keep_exact_ratios():
    weight = 0.5 ** np.arange(60)
    with jax.enable_x64(True):
        p = np.asarray(optim.update_weights(np.zeros(60), "logistic", "risk", weight))
    assert (p[1:] * 2 == p[:-1]).all()


@pytest.mark.parametrize("loss", optim.LOSSES)
def test_log_stepsize_of_a_risk(loss):
    log_risk = np.log([0.01, 0.5, 0.9, 3.0])
    with jax.enable_x64(True):
        got = optim.log_stepsize(log_risk, 7.0, loss)
    expected = np.log(7.0 * reference.INVERSE_SLOPES[loss](np.exp(log_risk)))
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert float(optim.log_stepsize(-1e6, 1.0, "logistic")) == 1e6


def _problem(rng, dtype=np.float32):
    X = rng.normal(size=(12, 3)).astype(dtype)
    X /= np.linalg.norm(X, axis=1).max()
    y = np.sign(X[:, 0]).astype(dtype)
    return X, y


@pytest.mark.parametrize("objective", ["risk", "log_risk"])
@pytest.mark.parametrize("loss", optim.LOSSES)
def test_transformation_takes_the_steps_of_run_gd(objective, loss, rng):
    with jax.enable_x64(True):
        X, y = _problem(rng, np.float64)

        def value(w):
            log_risk = optim.log_risk(y * (X @ w), loss)
            return log_risk if objective == "log_risk" else jnp.exp(log_risk)

        tx = optim.adaptive_gd(20.0, loss, objective=objective)

        def step(carry, _):
            w, state = carry
            risk, grads = jax.value_and_grad(value)(w)
            updates, state = tx.update(grads, state, w, value=risk)
            return (optax.apply_updates(w, updates), state), state.log_stepsize

        w = jnp.zeros(3)
        (w, state), log_stepsizes = jax.lax.scan(step, (w, tx.init(w)), length=8)
        expected = optim.run_gd(X, y, 20.0, 8, loss=loss)
        np.testing.assert_allclose(w, expected.w, rtol=1e-6)
        np.testing.assert_allclose(log_stepsizes, expected.log_stepsize, rtol=1e-6)
        assert int(state.step) == 8


def test_transformation_goes_on_below_float_range():
    tx = optim.adaptive_gd(10.0, objective="log_risk")
    grads = jnp.array([0.5, -0.25])
    updates, state = tx.update(grads, tx.init(grads), value=-1e6)
    np.testing.assert_allclose(updates, -10 * grads)
    assert float(state.log_stepsize) == pytest.approx(1e6 + np.log(10))


def test_transformation_stands_still_where_the_risk_underflowed():
    tx = optim.adaptive_gd(1e6, "exponential")
    updates, _ = tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)), value=jnp.zeros(()))
    np.testing.assert_array_equal(updates, 0)


def test_transformation_in_optax(rng):
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones((), jnp.float32)}
    grads = jax.tree.map(jnp.ones_like, params)
    tx = optax.chain(
        optax.clip_by_global_norm(1e3), optim.adaptive_gd(lambda step: 0.5 / (step + 1.0))
    )
    state = tx.init(params)
    update = jax.jit(tx.update)
    updates, state = update(grads, state, params, value=0.7)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    first = float(updates["b"])
    assert first == pytest.approx(-0.5 / (1 - np.exp(-0.7)))
    updates, state = update(grads, state, params, value=0.7)
    assert float(updates["b"]) == pytest.approx(first / 2)
    assert state[1].step.dtype == jnp.int32


def test_transformation_under_vmap_over_eta():
    def first_update(eta):
        tx = optim.adaptive_gd(eta)
        return tx.update(jnp.ones(()), tx.init(jnp.ones(())), value=0.3)[0]

    etas = jnp.array([1.0, 10.0])
    np.testing.assert_allclose(jax.vmap(first_update)(etas), [first_update(e) for e in (1.0, 10.0)])


def test_bad_input():
    z = jnp.zeros(3)
    with pytest.raises(ValueError, match=r"rule must be one of .*potential.* got 'adam'"):
        optim.update_weights(z, "logistic", "adam")
    with pytest.raises(ValueError, match=r"objective must be one of .*log_risk, got 'phi'"):
        optim.adaptive_gd(1.0, objective="phi")
    for eta in (0.0, -1.0, float("nan"), np.array([1.0, -2.0])):
        with pytest.raises(ValueError, match="eta must be positive, got"):
            optim.log_stepsize(0.0, eta)
    with pytest.raises(ValueError, match=r"eta must be positive, got -3.0"):
        optim.adaptive_gd(-3.0)
    tx = optim.adaptive_gd(1.0)
    with pytest.raises(TypeError, match="value"):
        tx.update(z, tx.init(z))
