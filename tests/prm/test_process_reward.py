import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxlab import prm


def test_loss_is_the_cross_entropy_of_valid_steps():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(3, 4)) * 5, rng.random((3, 4))
    mask = rng.random((3, 4)) < 0.6
    p = expit(z)
    want = -(y * np.log(p) + (1 - y) * np.log1p(-p))[mask].mean()
    hidden = np.where(mask, z, np.nan), np.where(mask, y, np.inf)
    np.testing.assert_allclose(prm.prm_loss(*hidden, mask), want, rtol=1e-5)
    grad = jax.grad(prm.prm_loss)(jnp.asarray(hidden[0]), hidden[1], mask)
    np.testing.assert_allclose(grad, np.where(mask, p - y, 0) / mask.sum(), atol=1e-6)


def test_loss_of_extreme_logits_and_of_nothing():
    logits = jnp.array([1e4, -1e4])
    loss, grad = jax.value_and_grad(prm.prm_loss)(logits, jnp.array([0.0, 1.0]), jnp.ones(2, bool))
    assert loss == pytest.approx(1e4)
    np.testing.assert_allclose(grad, [0.5, -0.5])
    assert prm.prm_loss(logits, logits, jnp.zeros(2, bool)) == 0


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ("min", [0.2, 0.9, 0]),
        ("prod", [0.1, 0.9, 0]),
        ("last", [0.5, 0.9, 0]),
        ("mean", [0.35, 0.9, 0]),
    ],
)
def test_scores_of_traces(how, want):
    scores = np.array([[0.2, 0.5, np.nan], [np.nan, 0.9, np.nan], [np.nan] * 3])
    mask = np.isfinite(scores)
    np.testing.assert_allclose(prm.aggregate_steps(scores, mask, how), want, rtol=1e-6)
    jitted = jax.jit(prm.aggregate_steps, static_argnums=2)(scores, mask, how)
    np.testing.assert_allclose(jitted, want, rtol=1e-6)


def test_reward_of_partial_texts():
    def step_logits(tokens):
        return jnp.cumsum(tokens == 7, axis=1) * 1.0 - 2.0

    reward = jax.jit(prm.as_reward_fn(step_logits, step_id=7, max_steps=2))
    tokens = np.array([[1, 7, 2, 7], [1, 7, 2, 7], [1, 2, 3, 7]])
    got = reward(tokens, np.array([4, 1, 4]))
    np.testing.assert_allclose(got, [expit(-1.0), 0.5, expit(-1.0)], rtol=1e-6)
    last = prm.as_reward_fn(step_logits, 7, 2, how="last")(tokens, np.array([4, 2, 3]))
    np.testing.assert_allclose(last, [expit(0.0), expit(-1.0), 0.5], rtol=1e-6)


def test_refuses():
    with pytest.raises(ValueError, match="how must be one of min, prod, last, mean, got 'max'"):
        prm.aggregate_steps(np.ones(3), np.ones(3), "max")
    with pytest.raises(ValueError, match="how must be one of"):
        prm.as_reward_fn(lambda x: x, 7, 2, how="max")
    with pytest.raises(ValueError, match="shapes must be equal"):
        prm.prm_loss(np.ones(3), np.ones(2), np.ones(3))
