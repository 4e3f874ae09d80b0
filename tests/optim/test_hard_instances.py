import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlab import optim
from tests.optim import reference


@pytest.mark.parametrize("dim", [1, 4, 9])
def test_online_facts(dim):
    hard = optim.hard_dataset_online(dim)
    np.testing.assert_allclose(hard.X @ hard.X.T, np.eye(dim))
    assert hard.min_steps == dim == pytest.approx(1 / hard.margin**2)
    _check_margin(hard)


@pytest.mark.parametrize("rho", [0.5, 0.25, 0.1, 1 / 16])
@pytest.mark.parametrize("dim", [2, 5, 30])
def test_batch_facts(dim, rho):
    hard = optim.hard_dataset_batch(dim, rho)
    assert hard.radius == pytest.approx(np.linalg.norm(hard.X, axis=1).max())
    assert hard.sample_weight.sum() == pytest.approx(1)
    np.testing.assert_allclose(hard.sample_weight[1:] / hard.sample_weight[:-1], rho)
    np.testing.assert_allclose((hard.y[:, None] * hard.X) @ hard.w_star, hard.margin)
    assert hard.min_steps == dim
    _check_margin(hard)


def _check_margin(hard):
    assert np.linalg.norm(hard.w_star) == pytest.approx(1)
    np.testing.assert_array_equal(hard.y, [(-1) ** i for i in range(len(hard.y))])
    assert optim.max_margin(hard.X, hard.y).margin == pytest.approx(hard.margin, rel=1e-9)


@pytest.mark.parametrize(
    ("rho", "kappa"), [(0.5, 0.212), (0.25, 0.540), (0.125, 0.761), (1 / 16, 0.879)]
)
def test_constant_of_the_lower_bound(rho, kappa):
    hard = optim.hard_dataset_batch(30, rho)
    assert 30 * hard.margin**2 / hard.radius**2 == pytest.approx(kappa, abs=5e-4)


@pytest.mark.parametrize("dim", [5, 10, 20, 40])
@pytest.mark.parametrize("rho", [0.5, 0.25])
@pytest.mark.parametrize(("loss", "rule"), [("exponential", "risk"), ("logistic", "potential")])
def test_large_stepsizes_separate_at_exactly_dim(dim, rho, loss, rule):
    hard = optim.hard_dataset_batch(dim, rho)
    with jax.enable_x64(True):
        result = _sweep(hard, dim + 5, loss, rule, (1e4, 1e6, 1e8))
        assert (result.min_margin[:, :dim] <= 0).all()
        assert (result.first_separated == dim).all()


def _sweep(hard, num_steps, loss, rule, etas):
    def run(eta):
        return optim.run_gd(
            hard.X, hard.y, eta, num_steps, loss=loss, rule=rule, sample_weight=hard.sample_weight
        )

    return jax.vmap(run)(jnp.array(etas))


@pytest.mark.parametrize("rho", [0.5, 0.25])
def test_no_rule_or_loss_separates_before_dim(rho):
    dim = 10
    hard = optim.hard_dataset_batch(dim, rho)
    with jax.enable_x64(True):
        for loss, rule in itertools.product(optim.LOSSES, optim.RULES):
            result = _sweep(hard, dim - 1, loss, rule, (1.0, 1e3, 1e8))
            assert (result.min_margin <= 0).all()
            assert (result.first_separated == -1).all()


def _heavy_ball(gradient, dim, steps):
    w, velocity, iterates = np.zeros(dim), np.zeros(dim), [np.zeros(dim)]
    for _ in range(steps):
        velocity = 0.875 * velocity - 64.0 * gradient(w)
        w = w + velocity
        iterates.append(w)
    return iterates


def _nesterov(gradient, dim, steps):
    w, previous, iterates = np.zeros(dim), np.zeros(dim), [np.zeros(dim)]
    for t in range(steps):
        ahead = w + t / (t + 3) * (w - previous)
        previous, w = w, ahead - 64.0 * gradient(ahead)
        iterates.append(w)
    return iterates


def _best_in_gradient_span(gradient, dim, steps):
    """No rule of its own: solves for the best separator in the span of the gradients so far."""
    span, iterates = [], [np.zeros(dim)]
    for _ in range(steps):
        span.append(gradient(iterates[-1]))
        basis = np.array(span).T
        iterates.append(basis @ (np.linalg.pinv(signed_of(dim) @ basis) @ np.ones(dim)))
    return iterates


def signed_of(dim):
    hard = optim.hard_dataset_batch(dim, 0.25)
    return hard.y[:, None] * hard.X


@pytest.mark.parametrize("method", [_heavy_ball, _nesterov, _best_in_gradient_span])
@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_other_first_order_methods_fare_no_better(method, loss):
    dim = 12
    hard = optim.hard_dataset_batch(dim, 0.25)
    signed = signed_of(dim)

    def gradient(w):
        return -(hard.sample_weight * reference.LOSSES[loss][1](signed @ w)) @ signed

    iterates = np.array(method(gradient, dim, dim - 1))
    margins = iterates @ signed.T  # [t, i]
    for t, row in enumerate(margins):
        assert np.abs(row[t:]).max() <= 1e-9 * max(1, np.abs(row).max())
        assert row.min() <= 1e-9 * max(1, np.abs(row).max())


def test_lbfgs_is_a_first_order_method_too():
    dim = 12
    hard = optim.hard_dataset_batch(dim, 0.25)
    signed = signed_of(dim)
    seen = []

    def value_and_gradient(w):
        seen.append(w.copy())
        z = signed @ w
        value, slope = reference.LOSSES["logistic"]
        return hard.sample_weight @ value(z), -(hard.sample_weight * slope(z)) @ signed

    scipy.optimize.minimize(
        value_and_gradient, np.zeros(dim), jac=True, method="L-BFGS-B", options={"maxfun": dim - 1}
    )
    for w in seen[:dim]:
        assert (signed @ w).min() <= 1e-9 * max(1, np.abs(w).max())


def test_the_perceptron_needs_exactly_dim_updates_in_every_order():
    hard = optim.hard_dataset_online(5)
    for order in itertools.permutations(range(5)):
        result = optim.perceptron(hard.X[list(order)], hard.y[list(order)])
        assert result.num_updates == 5
        assert result.num_passes == 2


def test_bad_input():
    with pytest.raises(ValueError, match="dim must be >= 2, got 1"):
        optim.hard_dataset_batch(1)
    for rho in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match=rf"rho must lie inside \(0, 1\), got {rho}"):
            optim.hard_dataset_batch(5, rho)
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        optim.hard_dataset_online(0)
