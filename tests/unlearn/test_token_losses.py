import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import unlearn

RNG = np.random.default_rng(0)
LOGITS, REF = RNG.normal(size=(2, 2, 3, 5))
MASK = np.array([[1, 0, 1], [0, 0, 1]], bool)
LOGP = np.log(RNG.uniform(0.01, 0.99, (2, 3)))


def softmax(logits):
    p = np.exp(logits)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("direction", "first", "second"),
    [("ref_to_model", REF, LOGITS), ("model_to_ref", LOGITS, REF)],
)
def test_kl_is_the_mean_divergence_of_marked_positions(direction, first, second):
    from scipy.stats import entropy

    expected = entropy(softmax(first), softmax(second), axis=-1)
    got = unlearn.kl_loss(LOGITS, REF, MASK, direction=direction)
    np.testing.assert_allclose(got, expected[MASK].mean(), rtol=1e-5)
    got = unlearn.kl_loss(LOGITS, REF, direction=direction)
    np.testing.assert_allclose(got, expected.mean(), rtol=1e-5)


def test_kl_takes_extreme_logits_and_empty_masks():
    extreme = jnp.array([[1e4, -1e4, 0.0], [-jnp.inf, 0.0, 1.0]])
    value, slope = jax.value_and_grad(lambda x: unlearn.kl_loss(x, extreme))(extreme + 0.0)
    assert value == 0
    assert np.isfinite(slope).all()
    value, slope = jax.value_and_grad(lambda x: unlearn.kl_loss(x, -extreme[:1]))(extreme[:1])
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert unlearn.kl_loss(LOGITS, REF, np.zeros_like(MASK)) == 0


def test_kl_refuses():
    with pytest.raises(ValueError, match="direction must be one of ref_to_model"):
        unlearn.kl_loss(LOGITS, REF, direction="both")
    with pytest.raises(ValueError, match=r"logits \(2, 3, 5\), ref_logits \(3, 5\)"):
        unlearn.kl_loss(LOGITS, REF[0])
    with pytest.raises(ValueError, match=r"mask \(3,\)"):
        unlearn.kl_loss(LOGITS, REF, MASK[0])


def test_weighted_ascent_and_its_gradient():
    expected = (np.exp(2 * LOGP) * LOGP)[MASK].mean()
    np.testing.assert_allclose(unlearn.wga_loss(LOGP, MASK, beta=2.0), expected, rtol=1e-5)
    slope = jax.grad(lambda x: unlearn.wga_loss(x, MASK, beta=2.0))(jnp.asarray(LOGP))
    np.testing.assert_allclose(slope, np.exp(2 * LOGP) * MASK / MASK.sum(), rtol=1e-5)


def test_satimp_and_its_gradient():
    p = np.exp(LOGP)
    weight = p**5 * (1 - p)
    got, slope = jax.value_and_grad(unlearn.satimp_loss)(jnp.asarray(LOGP), MASK)
    np.testing.assert_allclose(got, (weight * LOGP)[MASK].mean(), rtol=1e-4)
    np.testing.assert_allclose(slope, weight * MASK / MASK.sum(), rtol=1e-4)
    certain = jax.grad(unlearn.satimp_loss)(jnp.zeros((1, 1)), np.ones((1, 1), bool))
    assert np.isfinite(certain).all()


def test_undial_and_ceu():
    labels = np.array([[0, 1, 2], [3, 4, 0]])
    one_hot = np.eye(5)[labels]
    target = softmax(REF - 10 * one_hot)
    expected = -(target * np.log(softmax(LOGITS))).sum(-1)[MASK].mean()
    got = unlearn.undial_loss(LOGITS, REF, labels, MASK)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    target = softmax(np.where(one_hot > 0, -np.inf, LOGITS))
    expected = -(target * np.log(softmax(LOGITS))).sum(-1)[MASK].mean()
    np.testing.assert_allclose(unlearn.ceu_loss(LOGITS, labels, MASK), expected, rtol=1e-5)


def test_refuse_exponents_and_shapes():
    with pytest.raises(ValueError, match="beta must be > 0, got 0"):
        unlearn.wga_loss(LOGP, MASK, beta=0)
    with pytest.raises(ValueError, match="beta2 must be >= 0, got -1"):
        unlearn.satimp_loss(LOGP, MASK, beta2=-1)
    with pytest.raises(ValueError, match=r"values \(2, 3\), mask \(3,\)"):
        unlearn.wga_loss(LOGP, MASK[0])
    with pytest.raises(ValueError, match="labels"):
        unlearn.ceu_loss(LOGITS, np.zeros(3, int), MASK)


def test_rmu():
    acts = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    target = unlearn.control_vector(jax.random.key(0), 4, coeff=2.0)
    assert (np.asarray(target) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(target), 2, rtol=1e-6)
    square = ((acts - np.asarray(target)) ** 2).mean(-1)
    expected = np.mean([square[0][MASK[0]].mean(), square[1][MASK[1]].mean()])
    np.testing.assert_allclose(unlearn.rmu_loss(acts, target, MASK), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(3,\)"):
        unlearn.rmu_loss(acts, target[:3], MASK)
    with pytest.raises(ValueError, match=r"mask \(3,\)"):
        unlearn.rmu_loss(acts, target, MASK[0])
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        unlearn.control_vector(jax.random.key(0), 0, coeff=1.0)


def test_task_vector_undoes_fine_tuning():
    before = {"w": jnp.arange(3.0), "b": jnp.ones(2)}
    after = {"w": jnp.arange(3.0) + 1, "b": jnp.zeros(2)}
    vector = unlearn.task_vector(after, before)
    back = unlearn.apply_task_vector(after, vector, alpha=-1.0)
    jax.tree.map(np.testing.assert_array_equal, back, before)
    with pytest.raises(ValueError, match=r"[Kk]ey|structure|dict"):
        unlearn.task_vector(after, {"w": 1.0})
