import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from jaxlab import optim
from jaxlab.optim import gradient_descent
from tests.optim import reference


@pytest.mark.parametrize("loss", optim.LOSSES)
@pytest.mark.parametrize("rule", optim.RULES)
def test_trajectory_against_numpy(loss, rule, blobs):
    X, y = blobs
    expected = reference.run_gd(X, y, 3.0, 12, loss, rule)
    with jax.enable_x64(True):
        got = optim.run_gd(X, y, 3.0, 12, loss=loss, rule=rule)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-10)
        close(got.w, expected["w"][-1])
        close(got.w_avg, expected["w"][:-1].mean(axis=0))
        close(got.w_best, expected["w"][np.argmin(expected["log_risk"])])
        close(got.log_risk, expected["log_risk"])
        close(got.log_risk_avg, expected["log_risk_avg"])
        close(got.mass, expected["mass"])
        for field, iterates in (
            (got.min_margin, expected["w"]),
            (got.min_margin_avg, expected["averages"]),
        ):
            norms = np.linalg.norm(iterates, axis=1)
            smallest = (iterates @ (y[:, None] * X).T).min(axis=1)
            close(field, np.where(norms > 0, smallest / np.where(norms > 0, norms, 1), 0))


@pytest.mark.parametrize("rule", optim.RULES)
def test_log_stepsize_is_with_respect_to_the_gradient_of_the_risk(rule, blobs):
    X, y = blobs
    with jax.enable_x64(True):
        shorter = optim.run_gd(X, y, 5.0, 6, rule=rule)
        longer = optim.run_gd(X, y, 5.0, 7, rule=rule)
        gradient = jax.grad(lambda w: jnp.exp(optim.log_risk(y * (X @ w))))(shorter.w)
        np.testing.assert_allclose(
            shorter.w - jnp.exp(longer.log_stepsize[-1]) * gradient, longer.w, rtol=1e-9
        )


def test_fields_have_the_documented_shapes(blobs):
    X, y = blobs
    result = optim.run_gd(X, y, 10.0, 9)
    for name in ("log_risk", "log_risk_avg", "min_margin", "min_margin_avg"):
        assert getattr(result, name).shape == (10,)
    for name in ("log_stepsize", "mass"):
        assert getattr(result, name).shape == (9,)
    assert result.log_risk_avg[0] == result.log_risk[0]
    assert result.log_risk_avg[1] == result.log_risk[0]
    assert result.min_margin[0] == 0
    np.testing.assert_array_equal(result.min_margin_avg[:2], 0)
    assert result.first_separated.dtype == jnp.int32
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in result)


def test_first_separated_is_the_first_positive_margin(blobs):
    X, y = blobs
    result = optim.run_gd(X, y, 100.0, 200)
    for first, trajectory in (
        (result.first_separated, result.min_margin),
        (result.first_separated_avg, result.min_margin_avg),
    ):
        assert first > 0
        assert trajectory[first] > 1e-6
        assert (trajectory[:first] <= 1e-6).all()
    strict = optim.run_gd(X, y, 100.0, 200, sep_tol=2.0)
    assert strict.first_separated == strict.first_separated_avg == -1


def test_integer_weights_count_duplicates(blobs, rng):
    X, y = blobs
    counts = rng.integers(0, 4, len(y))
    counts[:2] = 0
    with jax.enable_x64(True):
        weighted = optim.run_gd(X, y, 50.0, 40, sample_weight=counts)
        repeated = optim.run_gd(np.repeat(X, counts, axis=0), np.repeat(y, counts), 50.0, 40)
    chex.assert_trees_all_close(weighted, repeated, rtol=1e-8)


def test_warm_start_continues(blobs):
    X, y = blobs
    with jax.enable_x64(True):
        whole = optim.run_gd(X, y, 7.0, 20, rule="potential")
        half = optim.run_gd(X, y, 7.0, 10, rule="potential")
        rest = optim.run_gd(X, y, 7.0, 10, rule="potential", w0=half.w)
        np.testing.assert_allclose(rest.w, whole.w, rtol=1e-12)
        np.testing.assert_allclose(rest.log_risk, whole.log_risk[10:], rtol=1e-12)
        np.testing.assert_allclose(rest.min_margin_avg[1], rest.min_margin[0], rtol=1e-12)


def test_sparse_equals_dense(blobs):
    X, y = blobs
    X = np.where(np.abs(X) > 0.1, X, 0)
    dense = optim.run_gd(X, y, 20.0, 30)
    sparse = optim.run_gd(BCOO.fromdense(X.astype(np.float32)), y, 20.0, 30)
    chex.assert_trees_all_close(sparse, dense, rtol=1e-3, atol=1e-4)
    etas = jnp.array([1.0, 20.0])
    X_sparse = BCOO.fromdense(X.astype(np.float32))
    swept = jax.vmap(lambda eta: optim.run_gd(X_sparse, y, eta, 30).log_risk)(etas)
    np.testing.assert_allclose(swept[1], dense.log_risk, rtol=1e-3, atol=1e-4)


def test_sparse_integers_are_floats():
    X, y = np.array([[1, 0], [0, 2], [3, 1]]), np.array([1, 1, -1])
    dense = optim.run_gd(X.astype(np.float32), y, 2.0, 5)
    sparse = optim.run_gd(BCOO.fromdense(X), y, 2.0, 5)
    np.testing.assert_allclose(sparse.log_risk, dense.log_risk, rtol=1e-5)
    assert sparse.w.dtype == jnp.float32


def test_vmap_over_etas_and_data_sets(blobs):
    X, y = blobs
    etas = jnp.array([0.5, 10.0, 300.0])
    swept = jax.vmap(lambda eta: optim.run_gd(X, y, eta, 25))(etas)
    one = optim.run_gd(X, y, 10.0, 25)
    np.testing.assert_allclose(swept.log_risk[1], one.log_risk, rtol=1e-4, atol=1e-4)
    flipped = jax.vmap(lambda X, y: optim.run_gd(X, y, 10.0, 25).w)(
        jnp.stack([X, -X]), jnp.stack([y, -y])
    )
    np.testing.assert_allclose(flipped[0], flipped[1], rtol=1e-5)


def test_padding_with_weight_zero_changes_nothing(blobs):
    X, y = blobs
    padded = np.pad(X, ((0, 5), (0, 2)))
    weight = np.r_[np.ones(len(y)), np.zeros(5)]
    with jax.enable_x64(True):
        got = optim.run_gd(padded, np.pad(y, (0, 5)), 30.0, 50, sample_weight=weight)
        want = optim.run_gd(X, y, 30.0, 50)
    np.testing.assert_allclose(got.log_risk, want.log_risk, rtol=1e-8)
    np.testing.assert_allclose(got.min_margin, want.min_margin, rtol=1e-8)


def test_jit_of_the_caller(blobs):
    X, y = blobs

    @jax.jit
    def final_risk(X, eta):
        return optim.run_gd(X, y, eta, 5).log_risk[-1]

    np.testing.assert_allclose(
        final_risk(X, 4.0), optim.run_gd(X, y, 4.0, 5).log_risk[-1], rtol=1e-5
    )


def test_differentiable_in_eta(blobs):
    X, y = blobs
    with jax.enable_x64(True):
        jax.test_util.check_grads(
            lambda eta: optim.run_gd(X, y, eta, 5).log_risk[-1], (2.0,), order=1, modes=["rev"]
        )


def test_eta_is_traced(blobs):
    X, y = blobs
    optim.run_gd(X, y, 1.0, 11)
    before = gradient_descent._run_gd._cache_size()
    for eta in (2.0, 3e5, np.float64(7.0)):
        optim.run_gd(X, y, eta, 11)
    assert gradient_descent._run_gd._cache_size() == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_the_data_is_kept(dtype, blobs):
    X, y = blobs
    with jax.enable_x64(True):
        result = optim.run_gd(X.astype(dtype), y, np.float64(10.0), 5)
        assert result.w.dtype == result.log_risk.dtype == dtype
        swept = jax.vmap(lambda eta: optim.run_gd(X.astype(dtype), y, eta, 5).w)(jnp.ones(2))
        assert swept.dtype == dtype


@pytest.mark.parametrize(
    ("loss", "rule"),
    [("exponential", "risk"), ("logistic", "potential"), ("flat_exponential", "potential")],
)
def test_float32_below_a_log_risk_of_minus_ten_thousand(loss, rule, blobs):
    X, y = blobs
    result = optim.run_gd(X.astype(np.float32), y, 1e4, 400, loss=loss, rule=rule)
    chex.assert_tree_all_finite(result)
    assert result.log_risk[-1] < -1e4
    assert result.log_risk_avg[-1] < -1e4
    assert optim.run_gd(X.astype(np.float32), y, 1e6, 50, loss=loss, rule=rule).log_risk[-1] < -1e4


def test_bound_for_every_step_and_eta(blobs):
    X, y = blobs
    margin = optim.max_margin(X, y).margin
    t = np.arange(1, 301)
    with jax.enable_x64(True):
        for eta in (0.1, 1.0, 10.0, 1e3, 1e6):
            result = optim.run_gd(X, y, eta, 300, loss="exponential")
            bound = optim.log_risk_bound(eta, margin, t)
            best = np.minimum.accumulate(result.log_risk)[:-1]
            assert (result.log_risk_avg[1:] <= bound + 1e-9 * max(1, eta)).all()
            assert (best <= bound + 1e-9 * max(1, eta)).all()


def test_the_mean_logistic_risk_needs_order_n_over_margin_squared():
    """One misclassified sample among n has mass 1/n under "risk", and a whole step otherwise."""
    X = np.r_[np.tile([1.0, 0.0], (999, 1)), [[-0.9, 0.4]]]
    y = np.ones(1000)
    with jax.enable_x64(True):
        risk = optim.run_gd(X, y, 1e4, 1000)
        potential = optim.run_gd(X, y, 1e4, 100, rule="potential")
        exponential = optim.run_gd(X, y, 1e4, 100, loss="exponential")
    assert risk.first_separated == 826
    assert float(jnp.exp(risk.log_risk[100])) == pytest.approx(8.02, abs=0.01)
    assert potential.first_separated < 24
    assert exponential.first_separated == 2
    assert float(exponential.log_risk[100]) == pytest.approx(-35025, rel=1e-3)


def test_inseparable_data_is_no_error():
    X = np.array([[1.0], [-1.0], [0.5]])
    result = optim.run_gd(X, np.array([1.0, 1.0, -1.0]), 1e3, 50)
    assert result.first_separated == result.first_separated_avg == -1
    chex.assert_tree_all_finite(result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros(3)}, r"X must be \[n, d\].*\(3,\)"),
        ({"y": np.ones((4, 1))}, r"y \(4, 1\)"),
        ({"y": np.ones(3)}, r"X \(4, 2\) and y \(3,\)"),
        ({"w0": np.ones(3)}, r"w0 must have shape \(2,\).*got \(3,\)"),
        ({"sample_weight": np.ones(3)}, r"\(4,\), got \(3,\)"),
        ({"eta": 0.0}, "eta must be positive, got 0.0"),
        ({"eta": -2}, "eta must be positive, got -2"),
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"loss": "hinge"}, r"loss must be one of .* got 'hinge'"),
        ({"rule": "adam"}, r"rule must be one of .* got 'adam'"),
        ({"loss": "polynomial", "degree": -1.0}, "degree must be positive, got -1.0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"X": np.ones((4, 2)), "y": np.ones(4), "eta": 1.0, "num_steps": 3} | change
    with pytest.raises(ValueError, match=message):
        optim.run_gd(**arguments)
