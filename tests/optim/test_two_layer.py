import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import optim

ACTIVATIONS = ("leaky_relu", "leaky_softplus")


def test_apply_against_numpy(rng):
    params = optim.init_two_layer(jax.random.key(0), 6, 3, scale=1.0)
    X = rng.normal(size=(5, 3)).astype(np.float32)
    v = X @ np.asarray(params.hidden).T
    expected = {
        "leaky_relu": np.where(v >= 0, v, 0.3 * v),
        "leaky_softplus": 0.3 * v + 0.7 * np.log1p(np.exp(v)),
    }
    for activation, features in expected.items():
        got = optim.two_layer_apply(params, X, activation=activation, slope=0.3)
        np.testing.assert_allclose(
            got, features @ np.asarray(params.outer) / 6, rtol=1e-4, atol=1e-6
        )


def test_init():
    params = optim.init_two_layer(jax.random.key(0), 400, 50, scale=2.0)
    np.testing.assert_array_equal(params.outer, [1.0] * 200 + [-1.0] * 200)
    assert float(params.hidden.std()) == pytest.approx(2 / np.sqrt(50), rel=0.05)
    assert not optim.init_two_layer(jax.random.key(0), 4, 3).hidden.any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", ["exponential", "logistic", "polynomial"])
@pytest.mark.parametrize("rule", optim.RULES)
def test_a_step_is_m_times_the_gradient_of_the_risk(activation, loss, rule, blobs):
    """Autodiff of the risk is the reference; `kinks` are avoided by a random start."""
    X, y = blobs
    with jax.enable_x64(True):
        params = optim.init_two_layer(jax.random.key(1), 8, 5, scale=1.0)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)

        def margins(hidden):
            return y * optim.two_layer_apply(
                optim.TwoLayerParams(hidden, params.outer), X, activation=activation, slope=0.4
            )

        gradient = jax.grad(lambda h: jnp.exp(optim.log_risk(margins(h), loss)))(params.hidden)
        z = margins(params.hidden)
        log_risk = optim.log_risk(z, loss)
        slopes = jnp.exp(optim.margin_loss(loss).log_slope(z)).mean()
        eta_t = {
            "risk": jnp.exp(optim.log_stepsize(log_risk, 3.0, loss)),
            "potential": 3.0 / slopes,
            "constant": 3.0,
            "l2": 3.0 / jnp.linalg.norm(gradient),
        }[rule]
        got = optim.run_two_layer_gd(
            params, X, y, 3.0, 1, loss=loss, rule=rule, activation=activation, slope=0.4
        )
        np.testing.assert_allclose(
            got.params.hidden, params.hidden - 8 * eta_t * gradient, rtol=1e-9, atol=1e-12
        )
        np.testing.assert_array_equal(got.params.outer, params.outer)
        np.testing.assert_allclose(got.log_risk[0], log_risk, rtol=1e-12)
        np.testing.assert_allclose(got.min_margin[0], z.min(), rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("slope", [0.2, 0.8])
def test_bound_for_the_exponential_loss(activation, slope, blobs):
    X, y = blobs
    margin = optim.max_margin(X, y).margin
    kappa = 0.0 if activation == "leaky_relu" else (1 - slope) * np.log(2)
    t = np.arange(1, 401)
    with jax.enable_x64(True):
        params = optim.init_two_layer(jax.random.key(0), 10, 5)
        for eta in (0.1, 1.0, 1e3):
            result = optim.run_two_layer_gd(
                params, X, y, eta, 400, activation=activation, slope=slope
            )
            best = np.minimum.accumulate(result.log_risk)[:-1]
            bound = optim.log_risk_bound(eta, margin, t, slope=slope, kappa=kappa)
            assert (best <= bound + 1e-9 * max(1, eta)).all()
            assert result.first_separated > 0
            assert result.min_margin[result.first_separated] > 0


def test_best_is_the_lowest_risk(blobs):
    X, y = blobs
    params = optim.init_two_layer(jax.random.key(0), 4, 5, scale=1.0)
    result = optim.run_two_layer_gd(params, X, y, 1e3, 30)
    assert result.log_risk.shape == result.min_margin.shape == (31,)
    best = optim.log_risk(y * optim.two_layer_apply(result.best, X), "exponential")
    assert float(best) == pytest.approx(float(result.log_risk.min()), rel=1e-4)


def test_dtype_follows_the_data_and_seeds_vmap(blobs):
    X, y = blobs
    with jax.enable_x64(True):
        params = optim.init_two_layer(jax.random.key(0), 4, 5, scale=1.0)
        result = optim.run_two_layer_gd(params, X.astype(np.float32), y, np.float64(2.0), 5)
        assert result.params.hidden.dtype == result.log_risk.dtype == jnp.float32
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def run(key):
        start = optim.init_two_layer(key, 4, 5, scale=1.0)
        return optim.run_two_layer_gd(start, X, y, 2.0, 5)

    swept = jax.vmap(run)(keys)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[2], swept), run(keys[2]), rtol=1e-4)


def test_bad_input():
    params = optim.init_two_layer(jax.random.key(0), 4, 2)
    X, y = np.ones((3, 2)), np.ones(3)
    for width in (1, 3, 0, -2):
        with pytest.raises(ValueError, match=f"width must be even and >= 2, got {width}"):
            optim.init_two_layer(jax.random.key(0), width, 2)
    with pytest.raises(ValueError, match=r"activation must be one of leaky_relu, .* got 'relu'"):
        optim.two_layer_apply(params, X, activation="relu")
    with pytest.raises(ValueError, match=r"activation must be one of .* got 'relu'"):
        optim.run_two_layer_gd(params, X, y, 1.0, 3, activation="relu")
    with pytest.raises(ValueError, match="eta must be positive, got 0"):
        optim.run_two_layer_gd(params, X, y, 0, 3)
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        optim.run_two_layer_gd(params, X, y, 1.0, 0)
    with pytest.raises(ValueError, match=r"hidden \(4, 2\) must be \(4, 3\)"):
        optim.run_two_layer_gd(params, np.ones((3, 3)), y, 1.0, 3)
    with pytest.raises(ValueError, match="rule must be one of"):
        optim.run_two_layer_gd(params, X, y, 1.0, 3, rule="adam")
