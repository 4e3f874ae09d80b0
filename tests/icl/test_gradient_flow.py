import chex
import jax
import numpy as np
import pytest
import scipy.integrate

from jaxlab import icl
from jaxlab.icl.gd_beta import GDBeta
from jaxlab.icl.gradient_flow import flow_field
from tests.icl.priors import generic_prior


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_start(seed, dim=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=dim), rng.normal(size=(dim, dim))


def test_field_is_the_negative_gradient():
    prior, start = generic_prior(), GDBeta(*random_start(0))
    grads = jax.grad(icl.gd_beta_risk, argnums=(0, 1))(*start, prior, 4)
    chex.assert_trees_all_close(
        tuple(flow_field(start, prior, 4)), jax.tree.map(np.negative, grads), rtol=1e-10
    )


def test_trajectory_against_scipy():
    prior, (beta, Gamma) = generic_prior(), random_start(1)
    result = icl.gradient_flow(beta, Gamma, prior, 4, num_steps=3200, dt=1.25e-4)

    def field(_, flat):
        slope = flow_field(GDBeta(flat[:3], flat[3:].reshape(3, 3)), prior, 4)
        return np.concatenate([slope.beta, slope.Gamma.ravel()])

    start = np.concatenate([beta, Gamma.ravel()])
    want = scipy.integrate.solve_ivp(field, (0, 0.4), start, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(result.time[-1], 0.4)
    np.testing.assert_allclose(result.beta, want[:3], rtol=1e-6)
    np.testing.assert_allclose(result.Gamma.ravel(), want[3:], rtol=1e-6)


def test_trajectory_against_diffrax(from_peer):
    prior, (beta, Gamma) = generic_prior(), random_start(2)
    result = icl.gradient_flow(beta, Gamma, prior, 4, num_steps=4000, dt=1.25e-4)

    def theirs():
        import diffrax

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: flow_field(y, prior, 4)),
            diffrax.Dopri8(),
            0.0,
            0.5,
            1e-3,
            GDBeta(jax.numpy.asarray(beta), jax.numpy.asarray(Gamma)),
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
        )
        return {"beta": solution.ys.beta[0], "Gamma": solution.ys.Gamma[0]}

    want = from_peer(theirs, "diffrax", rtol=1e-8)
    np.testing.assert_allclose(result.Gamma, want["Gamma"], rtol=1e-6)
    np.testing.assert_allclose(result.beta, want["beta"], rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_every_start_reaches_the_optimum_downhill(seed):
    prior, start = generic_prior(seed), random_start(seed)
    result = icl.gradient_flow(*start, prior, 4, num_steps=20_000)
    assert result.risk[-1] - icl.min_gd_beta_risk(prior, 4) < 1e-9
    assert result.beta_error[-1] < 1e-5
    assert (np.diff(result.risk) <= 1e-12).all()
    np.testing.assert_allclose(result.risk[0], icl.gd_beta_risk(*start, prior, 4))
    np.testing.assert_allclose(result.beta_error[0], np.linalg.norm(start[0] - prior.mean))
    assert result.time.shape == result.Gamma_error.shape == (20_001,)


def test_the_risk_is_not_convex():
    prior = icl.make_prior([1.0, 1.0], noise_var=0.1)

    def flat_risk(theta):
        return icl.gd_beta_risk(theta[:2], theta[2:].reshape(2, 2), prior, 5)

    points = 3 * np.random.default_rng(0).normal(size=(50, 6))
    lowest = jax.vmap(lambda t: jax.numpy.linalg.eigvalsh(jax.hessian(flat_risk)(t))[0])(points)
    assert lowest.min() < -10


def test_the_gradient_from_zero_is_finite():
    prior, (beta, Gamma) = generic_prior(), random_start(0)

    def end(beta):
        return icl.gradient_flow(beta, 0 * Gamma, prior, 4, num_steps=5).risk[-1]

    got, step = jax.grad(end)(beta), 1e-6 * np.eye(3)
    want = [(end(beta + d) - end(beta - d)) / 2e-6 for d in step]
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_refuses_and_batches():
    prior, (beta, Gamma) = generic_prior(), random_start(0)
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        icl.gradient_flow(beta, Gamma, prior, 4, num_steps=0)
    both = jax.vmap(lambda b: icl.gradient_flow(b, Gamma, prior, 4, num_steps=5).risk)(
        np.stack([beta, -beta])
    )
    one = icl.gradient_flow(-beta, Gamma, prior, 4, num_steps=5).risk
    np.testing.assert_allclose(both[1], one, rtol=1e-12)
