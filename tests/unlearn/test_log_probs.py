import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import unlearn
from tests.unlearn.tiny import apply_fn, numpy_answers, params, rows


def test_matches_a_plain_loop_in_float64():
    batch = rows(0)
    answers = unlearn.sequence_logprobs(apply_fn(params(), batch.tokens), batch.labels)
    logp, length = numpy_answers(params(), batch)
    np.testing.assert_allclose(answers.logp, logp, rtol=2e-5)
    np.testing.assert_array_equal(answers.length, length)
    assert answers.logp.dtype == jnp.float32
    assert answers.length.dtype == jnp.int32


def test_shifts_by_one_and_never_scores_the_first_position():
    labels = jnp.array([[1, 2, -100]])
    logits = jnp.zeros((1, 3, 4)).at[0, 0, 2].set(5.0)
    tokens = unlearn.token_logprobs(logits, labels)
    np.testing.assert_array_equal(tokens.mask, [[True, False]])
    np.testing.assert_allclose(tokens.logp[0], [5 - np.log(3 + np.exp(5)), 0], rtol=1e-6)


def test_a_row_without_scored_tokens_is_zero():
    answers = unlearn.sequence_logprobs(jnp.ones((1, 3, 4)), jnp.full((1, 3), -100))
    assert answers.logp[0] == 0
    assert answers.length[0] == 0


def test_half_precision_is_summed_in_single():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 200, 50)), jnp.bfloat16)
    labels = jnp.asarray(rng.integers(0, 50, (2, 200)))
    exact = np.asarray(logits, np.float64)[:, :-1]
    exact = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    exact = np.take_along_axis(exact, np.asarray(labels)[:, 1:, None], 2).sum((1, 2))
    got = unlearn.sequence_logprobs(logits, labels)
    assert got.logp.dtype == jnp.float32
    np.testing.assert_allclose(got.logp, exact, rtol=1e-5)


def test_double_precision_stays():
    with jax.enable_x64(True):
        got = unlearn.sequence_logprobs(np.zeros((1, 3, 4)), np.zeros((1, 3), np.int32))
        assert got.logp.dtype == jnp.float64
        np.testing.assert_allclose(got.logp, -2 * np.log(4), rtol=1e-15)


def test_large_logits_give_finite_losses_and_gradients():
    logits = jnp.array([[[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]])
    labels = jnp.array([[0, 1, 0]])

    def loss(logits):
        return unlearn.sequence_logprobs(logits, labels).logp.sum()

    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == -4e4
    assert np.isfinite(gradient).all()


def test_works_under_vmap_and_jit():
    batch = rows(1)
    logits = apply_fn(params(), batch.tokens)
    one = jax.vmap(lambda x, y: unlearn.sequence_logprobs(x[None], y[None]).logp[0])
    got = jax.jit(one)(logits, batch.labels)
    np.testing.assert_allclose(got, unlearn.sequence_logprobs(logits, batch.labels).logp, rtol=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ((2, 3, 5), (2, 4), r"\(2, 3, 5\) and \(2, 4\)"),
        ((2, 3), (2, 3), r"\(2, 3\) and \(2, 3\)"),
        ((2, 3, 5), (6,), r"\(2, 3, 5\) and \(6,\)"),
    ],
)
def test_refuses_shapes(logits, labels, message):
    for function in (unlearn.token_logprobs, unlearn.sequence_logprobs):
        with pytest.raises(ValueError, match=message):
            function(np.zeros(logits), np.zeros(labels, np.int32))


def test_refuses_labels_that_are_no_integers():
    with pytest.raises(ValueError, match="must be integers, got float"):
        unlearn.token_logprobs(np.zeros((1, 2, 3)), np.zeros((1, 2)))
