import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxlab import icl
from tests.icl.priors import generic_prior


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_isotropic_posterior_is_ridge_towards_the_mean():
    prior = icl.make_prior([1.0, -2.0, 3.0], task_cov=0.5, noise_var=0.3)
    tokens = icl.sample_prompts(jax.random.key(0), prior, 4, 8).tokens
    for prompt, got in zip(tokens, icl.bayes_predict(prior, tokens), strict=True):
        X, y, query = map(np.asarray, icl.split_tokens(prompt))
        ridge = Ridge(alpha=0.3 / 0.5, fit_intercept=False).fit(X, y - X @ prior.mean)
        np.testing.assert_allclose(got, query @ (prior.mean + ridge.coef_), rtol=1e-9)


@pytest.mark.parametrize("rank", [3, 2])
@pytest.mark.parametrize("noise_var", [0.0, 0.4])
def test_gaussian_conditioning(rank, noise_var):
    """Posterior of a joint Gaussian, by pseudo-inverse of the label covariance."""
    prior = generic_prior(1, rank=rank, noise_var=noise_var)
    tokens = icl.sample_prompts(jax.random.key(0), prior, 2, 16).tokens
    for prompt, got in zip(tokens, icl.bayes_predict(prior, tokens), strict=True):
        X, y, query = map(np.asarray, icl.split_tokens(prompt))
        cov = X @ prior.task_cov @ X.T + noise_var * np.eye(2)
        gain = prior.task_cov @ X.T @ np.linalg.pinv(cov)
        want = query @ (prior.mean + gain @ (y - X @ prior.mean))
        np.testing.assert_allclose(got, want, rtol=1e-8)


def test_noiseless_examples_are_learned_exactly():
    prior = icl.make_prior(np.ones(3))
    prompts = icl.sample_prompts(jax.random.key(0), prior, 5, 32)
    np.testing.assert_allclose(icl.bayes_predict(prior, prompts.tokens), prompts.target, rtol=1e-8)
    assert icl.bayes_risk(jax.random.key(0), prior, 5, 64) < 1e-12


def test_a_risk_far_below_rounding():
    """With noise of 1e-18, what remains unknown of the weights is no difference from 1."""
    prior, key = icl.make_prior(np.ones(3), noise_var=1e-18), jax.random.key(0)
    draws = [np.asarray(jax.random.normal(k, (6, 3))) for k in jax.random.split(key, 8)]
    traces = [np.trace(np.linalg.inv(X.T @ X + 1e-18 * np.eye(3))) for X in draws]
    risk = icl.bayes_risk(key, prior, 6, 8)
    np.testing.assert_allclose(risk, 1e-18 * (1 + np.mean(traces)), rtol=1e-9)


@pytest.mark.parametrize(("num_context", "noise_var"), [(2, 0.5), (6, 0.5), (2, 0.0)])
def test_risk_is_the_mean_squared_error_of_the_prediction(num_context, noise_var):
    prior = generic_prior(noise_var=noise_var)
    prompts = icl.sample_prompts(jax.random.key(1), prior, num_context, 200_000)
    errors = jnp.square(icl.bayes_predict(prior, prompts.tokens) - prompts.target)
    risk = icl.bayes_risk(jax.random.key(2), prior, num_context, 50_000)
    assert abs(risk - errors.mean()) < 6 * errors.std() / np.sqrt(errors.size)
    assert risk <= icl.min_gd_beta_risk(prior, num_context)


def test_excess_of_gd_beta_is_within_the_proved_factor():
    for noise_var in (0.1, 1.0, 10.0):
        prior = generic_prior(3, noise_var=noise_var)
        phi = icl.signal_eigenvalues(prior)
        np.testing.assert_allclose(
            np.sort(np.linalg.eigvals(prior.input_cov @ prior.task_cov).real), phi, rtol=1e-9
        )
        bayes = icl.bayes_risk(jax.random.key(0), prior, 8, 20_000) - noise_var
        ratio = (icl.min_gd_beta_risk(prior, 8) - noise_var) / bayes
        assert 1 <= ratio <= 1.02 * (1 + (phi.sum() + phi[-1]) / noise_var)


@pytest.mark.parametrize(("num_context", "noise_var"), [(2, 0.5), (6, 0.5), (2, 0.0)])
def test_gradients_where_eigenvalues_are_equal(num_context, noise_var):
    """Isotropic covariances, and fewer examples than dimensions."""
    key = jax.random.key(0)
    prior = icl.make_prior([1.0, 2.0, 3.0], noise_var=noise_var)
    tokens = icl.sample_prompts(key, generic_prior(), num_context, 4).tokens
    rng = np.random.default_rng(0)
    change = [rng.normal(size=np.shape(part)) for part in prior]
    change = icl.TaskPrior(*(x + x.T if x.ndim == 2 else abs(x) for x in change))
    if not noise_var:
        change = change._replace(noise_var=0.0)  # there is nothing on the other side of 0

    def along(function, t):
        return function(jax.tree.map(lambda x, d: x + t * d, prior, change))

    functions = [
        lambda prior: icl.bayes_risk(key, prior, num_context, 8),
        lambda prior: icl.bayes_predict(prior, tokens).sum(),
    ]
    if noise_var:  # labels hold its root
        functions.append(lambda prior: icl.sample_prompts(key, prior, num_context, 4).target.sum())
    for function in functions:
        got = jax.grad(lambda t, function=function: along(function, t))(0.0)
        want = (along(function, 1e-5) - along(function, -1e-5)) / 2e-5
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
        assert all(np.isfinite(x).all() for x in jax.grad(function)(prior))


def test_float32_singular_task_covariance_is_finite():
    prior = icl.make_prior(np.ones(3, np.float32), task_cov=np.diag([1.0, 0, 0]))
    tokens = icl.sample_prompts(jax.random.key(0), prior, 2, 64).tokens
    prediction = icl.bayes_predict(prior, tokens)
    assert prediction.dtype == jnp.float32
    assert np.isfinite(prediction).all()
    with pytest.raises(ValueError, match="num_samples must be >= 1"):
        icl.bayes_risk(jax.random.key(0), prior, 2, 0)
