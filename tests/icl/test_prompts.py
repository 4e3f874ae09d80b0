import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import icl
from tests.icl.priors import generic_prior


@settings(max_examples=8)  # every size compiles anew
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2))
def test_split_inverts_make_tokens(dim, num_context, axes):
    rng = np.random.default_rng(dim * 10 + num_context)
    lead = (2,) * axes
    X, y = rng.normal(size=(*lead, num_context, dim)), rng.normal(size=(*lead, num_context))
    query = rng.normal(size=(*lead, dim))
    tokens = icl.make_tokens(X, y, query)
    assert tokens.shape == (*lead, dim + 1, num_context + 1)
    np.testing.assert_array_equal(tokens[..., -1, -1], 0)
    for got, want in zip(icl.split_tokens(tokens), (X, y, query), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    sequence = icl.interleave(tokens)
    assert sequence.shape == (*lead, 2 * num_context + 1, dim)
    np.testing.assert_allclose(sequence[..., ::2, :][..., :-1, :], X, rtol=1e-6)
    np.testing.assert_allclose(sequence[..., 1::2, 0], y, rtol=1e-6)
    np.testing.assert_array_equal(sequence[..., 1::2, 1:], 0)


def test_sampled_moments():
    prior = generic_prior(dim=2, noise_var=0.5, dtype=np.float32)
    prompts = icl.sample_prompts(jax.random.key(0), prior, 3, 200_000)
    X, y, query = icl.split_tokens(prompts.tokens)
    near = {"atol": 0.03, "rtol": 0}
    np.testing.assert_allclose(prompts.weights.mean(0), prior.mean, **near)
    np.testing.assert_allclose(np.cov(prompts.weights.T), prior.task_cov, **near)
    np.testing.assert_allclose(np.cov(query.T), prior.input_cov, **near)
    np.testing.assert_allclose(np.cov(X[:, 1].T), prior.input_cov, **near)
    noise = y - jnp.einsum("bmd,bd->bm", X, prompts.weights)
    last = prompts.target - jnp.einsum("bd,bd->b", query, prompts.weights)
    np.testing.assert_allclose([noise.mean(), noise.var(), last.var()], [0, 0.5, 0.5], **near)
    independent = np.corrcoef(np.stack([noise[:, 0], noise[:, 1], last, X[:, 0, 0]]))
    np.testing.assert_allclose(independent, np.eye(4), atol=0.02)


def test_dtype_is_the_priors():
    assert icl.make_prior([1, 2]).mean.dtype == jnp.float32
    prompts = icl.sample_prompts(jax.random.key(0), icl.make_prior(np.ones(2, np.float32)), 2, 3)
    assert prompts.tokens.dtype == jnp.float32
    with jax.enable_x64(True):
        prior = icl.make_prior(np.ones(2))
        assert icl.sample_prompts(jax.random.key(0), prior, 2, 3).target.dtype == jnp.float64


@chex.variants(with_jit=True, without_jit=True)
class SampleTest(chex.TestCase):
    def test_the_same_numbers_under_jit_and_vmap(self):
        prior = generic_prior(dtype=np.float32)
        keys = jax.random.split(jax.random.key(1), 3)
        sample = self.variant(jax.vmap(lambda key: icl.sample_prompts(key, prior, 4, 5)))
        want = [icl.sample_prompts(key, prior, 4, 5).tokens for key in keys]
        np.testing.assert_allclose(sample(keys).tokens, want, rtol=1e-5, atol=1e-5)


EYE = np.eye(2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mean": EYE}, r"mean must be a vector \[d\], got shape \(2, 2\)"),
        ({"mean": [np.nan, 1.0]}, "mean holds NaN"),
        ({"task_cov": np.eye(3)}, r"task_cov must be .* \[2, 2\], got shape \(3, 3\)"),
        ({"input_cov": [[1.0, 0.5], [0.0, 1.0]]}, "input_cov .* not symmetric"),
        ({"input_cov": np.diag([1.0, 0.0])}, "input_cov must be positive definite, smallest .* 0"),
        ({"input_cov": 0.0}, "input_cov must be positive definite"),
        ({"task_cov": np.diag([1.0, -0.5])}, "semi-definite, smallest eigenvalue -0.5"),
        ({"task_cov": np.full((2, 2), np.inf)}, "task_cov holds NaN or infinity"),
        ({"noise_var": -0.1}, "noise_var must be a finite number >= 0, got -0.1"),
    ],
)
def test_make_prior_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        icl.make_prior(**({"mean": [1.0, 2.0]} | kwargs))


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"\(4, 2\), \(3,\) and \(2,\)"):
        icl.make_tokens(np.zeros((4, 2)), np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="num_context must be >= 1, got 0"):
        icl.make_tokens(np.zeros((0, 2)), np.zeros(0), np.zeros(2))


@pytest.mark.parametrize("size", [{"num_context": 0}, {"batch_size": 0}])
def test_sample_refuses(size):
    arguments = {"num_context": 2, "batch_size": 2} | size
    with pytest.raises(ValueError, match=r"must be >= 1, got 0"):
        icl.sample_prompts(jax.random.key(0), icl.make_prior([1.0]), **arguments)


def test_every_formula_wants_an_example():
    prior = icl.make_prior([1.0, 0.0], noise_var=1.0)
    params = icl.init_lsa(jax.random.key(0), 2)
    for call in (
        lambda: icl.icl_risk(params, prior, 0),
        lambda: icl.optimal_gd_beta(prior, 0),
        lambda: icl.min_gd_beta_risk(prior, 0),
        lambda: icl.gd_beta_risk(prior.mean, prior.task_cov, prior, 0),
        lambda: icl.lsa_gap_lower_bound(prior, 0),
        lambda: icl.optimal_lsa(prior, 0),
        lambda: icl.bayes_risk(jax.random.key(0), prior, 0, 10),
        lambda: icl.gradient_flow(prior.mean, prior.task_cov, prior, 0, num_steps=1),
    ):
        with pytest.raises(ValueError, match="num_context must be >= 1, got 0"):
            call()
