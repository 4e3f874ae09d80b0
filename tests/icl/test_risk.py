import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlab import icl
from jaxlab.icl.gd_beta import lsa_from_effective
from tests.icl.priors import generic_prior


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def monte_carlo(predict, prior, num_context, samples=200_000):
    prompts = icl.sample_prompts(jax.random.key(9), prior, num_context, samples)
    errors = jnp.square(predict(prompts.tokens) - prompts.target)
    return errors.mean(), errors.std() / np.sqrt(samples)


def double(params):
    return jax.tree.map(lambda x: x.astype(jnp.float64), params)


@pytest.mark.parametrize("num_context", [1, 4])
@pytest.mark.parametrize("noise_var", [0.0, 0.7])
def test_exact_risk_of_random_blocks_against_sampling(num_context, noise_var):
    prior = generic_prior(dim=3, noise_var=noise_var)
    lsa = double(icl.init_lsa(jax.random.key(0), 3, scale=0.6))
    ltb = double(icl.init_ltb(jax.random.key(1), 3, scale=0.6))
    rng = np.random.default_rng(0)
    beta, Gamma = rng.normal(size=3), rng.normal(size=(3, 3))
    for risk, predict in (
        (icl.icl_risk(lsa, prior, num_context), lambda t: icl.lsa_apply(lsa, t)),
        (icl.icl_risk(ltb, prior, num_context), lambda t: icl.ltb_apply(ltb, t)),
        (
            icl.gd_beta_risk(beta, Gamma, prior, num_context),
            lambda t: icl.gd_beta_predict(beta, Gamma, t),
        ),
    ):
        mean, error = monte_carlo(predict, prior, num_context)
        assert abs(mean - risk) < 4 * error


@pytest.mark.parametrize("seed", range(4))
def test_both_formulas_agree_on_gd_beta(seed):
    prior = generic_prior(seed, dim=4, rank=3)
    rng = np.random.default_rng(seed)
    beta, Gamma = rng.normal(size=4), rng.normal(size=(4, 4))
    params = icl.ltb_from_gd_beta(beta, Gamma)
    want = icl.gd_beta_risk(beta, Gamma, prior, 6)
    np.testing.assert_allclose(icl.icl_risk(params, prior, 6), want, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_optimum_against_a_solver_from_a_random_start(seed):
    prior = generic_prior(seed, dim=3, rank=2 if seed == 4 else None, noise_var=0.2 * seed)
    optimum = icl.optimal_gd_beta(prior, 5)

    @jax.jit
    def objective(theta):
        return jax.value_and_grad(lambda t: icl.gd_beta_risk(t[:3], t[3:].reshape(3, 3), prior, 5))(
            theta
        )

    start = np.random.default_rng(seed).normal(size=12)
    found = scipy.optimize.minimize(
        lambda t: jax.device_get(objective(t)), start, jac=True, options={"gtol": 1e-10}
    )
    want = icl.min_gd_beta_risk(prior, 5)
    np.testing.assert_allclose(icl.gd_beta_risk(*optimum, prior, 5), want, rtol=1e-12)
    np.testing.assert_allclose(found.fun, want, rtol=1e-8)
    np.testing.assert_allclose(found.x[:3], prior.mean, atol=1e-4)


def test_isotropic_optimum_in_closed_form():
    psi, noise, dim, M = 0.5, 0.3, 4, 7
    prior = icl.make_prior(np.ones(dim), task_cov=psi, noise_var=noise)
    want = psi * M / ((M + 1) * psi + dim * psi + noise) * np.eye(dim)
    np.testing.assert_allclose(icl.optimal_gd_beta(prior, M).Gamma, want, atol=1e-14)


def test_degenerate_priors_have_finite_optima():
    for psi, noise in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
        prior = icl.make_prior(np.ones(2), task_cov=psi, noise_var=noise)
        optimum = icl.optimal_gd_beta(prior, 3)
        chex.assert_tree_all_finite(optimum)
        want = icl.min_gd_beta_risk(prior, 3)
        np.testing.assert_allclose(icl.gd_beta_risk(*optimum, prior, 3), want, atol=1e-14)


@pytest.mark.parametrize(("dim", "num_context"), [(1, 1), (3, 5), (6, 2)])
@pytest.mark.parametrize("surplus", [0, 3])
def test_every_gd_beta_is_a_block(dim, num_context, surplus):
    rng = np.random.default_rng(dim)
    beta, Gamma = rng.normal(size=dim), rng.normal(size=(dim, dim))
    widths = {"key_dim": dim + surplus, "value_dim": 1 + surplus, "hidden_dim": 1 + surplus}
    params = icl.ltb_from_gd_beta(beta, Gamma, **widths)
    tokens = icl.sample_prompts(jax.random.key(0), icl.make_prior(beta), num_context, 64).tokens
    np.testing.assert_allclose(
        icl.ltb_apply(params, tokens), icl.gd_beta_predict(beta, Gamma, tokens), atol=1e-10
    )
    assert params.W_K.shape == (dim + surplus, dim + 1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"key_dim": 2}, "key_dim must be >= 3"),
        ({"value_dim": 0}, "value_dim must be >= 1"),
        ({"hidden_dim": 0}, "hidden_dim must be >= 1"),
    ],
)
def test_construction_refuses_too_narrow_blocks(kwargs, message):
    with pytest.raises(ValueError, match=message):
        icl.ltb_from_gd_beta(np.ones(3), np.eye(3), **kwargs)
    with pytest.raises(ValueError, match=r"\(3,\) and \(2, 2\)"):
        icl.ltb_from_gd_beta(np.ones(3), np.eye(2))


def test_projection_recovers_what_was_built_in():
    prior = generic_prior(1)
    beta, Gamma = np.array([1.0, -2.0, 0.5]), np.arange(9.0).reshape(3, 3)
    params = icl.ltb_from_gd_beta(beta, Gamma)
    rescaled = params._replace(W_V=3 * params.W_V, W_Q=params.W_Q / 3)
    prompts = icl.sample_prompts(jax.random.key(0), prior, 5, 256)
    projection = icl.project_to_gd_beta(rescaled, prompts.tokens, prompts.target)
    np.testing.assert_allclose(projection.gd_beta.beta, beta, rtol=1e-12)
    np.testing.assert_allclose(projection.gd_beta.Gamma, Gamma, rtol=1e-12, atol=1e-12)
    assert projection.distance < 1e-12
    other = double(icl.init_ltb(jax.random.key(0), 3, scale=0.5))
    assert icl.project_to_gd_beta(other, prompts.tokens, prompts.target).distance > 1e-2


@pytest.mark.parametrize(
    ("norm", "num_context", "gap"),
    [(0.0, 10, 0.0), (1.0, 10, 0.248), (20**0.5, 10, 4.579), (10.0, 10, 18.757)],
)
def test_gap_of_attention_alone(norm, num_context, gap):
    prior = icl.make_prior(np.full(5, norm / 5**0.5), noise_var=0.25)
    optimum = icl.optimal_lsa(prior, num_context)
    np.testing.assert_allclose(optimum.gap, gap, atol=6e-4)
    np.testing.assert_allclose(icl.icl_risk(optimum.params, prior, num_context), optimum.risk)
    assert optimum.gap >= icl.lsa_gap_lower_bound(prior, num_context) - 1e-9
    one_step = icl.optimal_gd_beta(prior, num_context)
    naive = lsa_from_effective(
        jnp.append(jnp.zeros(5), 1.0), jnp.vstack([one_step.Gamma.T, jnp.zeros((1, 5))])
    )
    assert icl.icl_risk(naive, prior, num_context) >= optimum.risk - 1e-9


def test_lower_bound_of_the_gap_against_numpy():
    prior = generic_prior(4)
    mean, H = np.asarray(prior.mean), np.asarray(prior.input_cov)
    want = sum(mean[i] * H[i, j] * mean[j] for i in range(3) for j in range(3)) / 8
    np.testing.assert_allclose(icl.lsa_gap_lower_bound(prior, 7), want, rtol=1e-12)


def test_a_zero_mean_has_one_informed_start(monkeypatch):
    starts, minimize = [], scipy.optimize.minimize

    def record(objective, start, **options):
        starts.append(start)
        return minimize(objective, start, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", record)
    icl.optimal_lsa(icl.make_prior(np.zeros(2), noise_var=0.5), 4)
    assert len(starts) == 2  # the other is random
    assert (starts[0] != starts[1]).all()


def test_gap_approaches_its_limit_for_a_large_mean():
    prior = icl.make_prior(np.full(3, 1e3), noise_var=0.25)
    gap = icl.optimal_lsa(prior, 8).gap
    np.testing.assert_allclose(gap / (3 * 1e6), 2 / 10, rtol=1e-3)


def test_no_random_attention_is_below_the_bound():
    prior = generic_prior(2)
    floor = icl.min_gd_beta_risk(prior, 4) + icl.lsa_gap_lower_bound(prior, 4)
    draws = jax.vmap(lambda key: icl.init_lsa(key, 3, scale=0.5))(
        jax.random.split(jax.random.key(0), 500)
    )
    risks = jax.vmap(lambda params: icl.icl_risk(params, prior, 4))(double(draws))
    assert risks.min() > floor


def test_optimal_lsa_keeps_the_dtype_and_refuses():
    prior = icl.make_prior(np.ones(2, np.float32), noise_var=0.1)
    optimum = icl.optimal_lsa(prior, 3, num_starts=5, key=jax.random.key(1))
    assert optimum.params.W_K.dtype == np.float32
    with pytest.raises(ValueError, match="num_starts must be >= 1, got 0"):
        icl.optimal_lsa(prior, 3, num_starts=0)


@chex.variants(with_jit=True, without_jit=True)
class RiskTest(chex.TestCase):
    def test_jit_vmap_and_grad(self):
        with jax.enable_x64(True):
            priors = [generic_prior(seed) for seed in range(3)]
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *priors)
            params = double(icl.init_lsa(jax.random.key(0), 3))
            risks = self.variant(jax.vmap(lambda p: icl.icl_risk(params, p, 5)))(stacked)
            want = [icl.icl_risk(params, prior, 5) for prior in priors]
            np.testing.assert_allclose(risks, want, rtol=1e-12)
            optima = self.variant(jax.vmap(lambda p: icl.min_gd_beta_risk(p, 5)))(stacked)
            assert (optima <= risks).all()
            jax.test_util.check_grads(
                lambda p: icl.icl_risk(p, priors[0], 5), (params,), order=1, modes=["rev"]
            )


def test_excess_risk_of_a_block_is_its_squared_distance_to_the_optimum():
    prior = generic_prior(3)
    params = double(icl.init_ltb(jax.random.key(0), 3, scale=0.5))
    prompts = icl.sample_prompts(jax.random.key(1), prior, 4, 400_000)
    best = icl.gd_beta_predict(*icl.optimal_gd_beta(prior, 4), prompts.tokens)
    squares = jnp.square(icl.ltb_apply(params, prompts.tokens) - best)
    excess = icl.icl_risk(params, prior, 4) - icl.min_gd_beta_risk(prior, 4)
    assert abs(squares.mean() - excess) < 4 * squares.std() / np.sqrt(squares.size)
