import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import unlearn
from tests.unlearn.tiny import (
    apply_fn,
    hidden_fn,
    numpy_answers,
    params,
    rows,
    tiny_head,
    tree_close,
)


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


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 1000])
def test_chunks_give_the_same_values_and_gradients(chunk_size):
    batch, head = rows(0), tiny_head(chunk_size)
    weigh = jnp.asarray(np.random.default_rng(1).normal(size=(6, 8)), jnp.float32)

    def dense(params):
        tokens = unlearn.token_logprobs(apply_fn(params, batch.tokens), batch.labels)
        return (weigh * tokens.logp).sum(), tokens

    def chunked(params):
        hidden = hidden_fn(params, batch.tokens)
        tokens = unlearn.chunked_token_logprobs(head, params, hidden, batch.labels)
        return (weigh * tokens.logp).sum(), tokens

    (_, expected), gradient = jax.value_and_grad(dense, has_aux=True)(params())
    (_, got), chunked_gradient = jax.jit(jax.value_and_grad(chunked, has_aux=True))(params())
    tree_close(got, expected, atol=1e-6)
    tree_close(chunked_gradient, gradient, rtol=1e-5, atol=1e-6)


def scored_positions(batch):
    return int((np.asarray(batch.labels)[:, 1:] != -100).sum())


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("spare", [0, 3, 1000])
def test_logits_of_scored_positions_alone(chunk_size, spare):
    batch = rows(0)
    head = tiny_head(chunk_size)._replace(scored=scored_positions(batch) + spare)

    def loss(params, head):
        hidden = hidden_fn(params, batch.tokens)
        tokens = unlearn.chunked_token_logprobs(head, params, hidden, batch.labels)
        return (tokens.logp**2).sum(), tokens

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, expected), dense = gradient(params(), tiny_head(None))
    (_, got), packed = gradient(params(), head)
    tree_close(got, expected, rtol=1e-6, atol=1e-6)
    tree_close(packed, dense, rtol=1e-5, atol=1e-6)


def test_more_scored_positions_than_room_is_seen():
    batch = rows(0)
    head = tiny_head(None)._replace(scored=scored_positions(batch) - 1)
    hidden = hidden_fn(params(), batch.tokens)
    tokens = unlearn.chunked_token_logprobs(head, params(), hidden, batch.labels)
    assert np.isnan(tokens.logp.sum())


def test_room_is_that_of_the_fullest_batch():
    labels = np.full((3, 201), -100)
    labels[0, :101] = labels[1, 1:41] = labels[2, 5:6] = 1  # 100, 40 and 1 scored of 200
    head = tiny_head(None)
    assert head.fitted(labels, np.array([[1, 2], [2, 2]])).scored == 50  # 41 in eighths of 400
    assert head.fitted(labels, np.array([[1, 2], [0, 1]])).scored == 150
    assert head.fitted(labels, np.array([[0, 0]])).scored == 200
    fits = []
    jax.eval_shape(lambda traced: fits.append(head.fitted(traced, np.zeros((1, 1), int))), labels)
    assert fits == [head]


def test_chunks_need_less_memory_than_all_logits():
    count, length, width, vocab = 4, 64, 8, 4096
    head = unlearn.ChunkedHead(lambda p: p, lambda w, h: h @ w, chunk_size=16)
    labels = jnp.zeros((count, length), jnp.int32)

    def dense(weights, hidden):
        return unlearn.token_logprobs(hidden @ weights, labels).logp.sum()

    def chunked(weights, hidden):
        return unlearn.chunked_token_logprobs(head, weights, hidden, labels).logp.sum()

    def scratch(loss):
        shapes = jnp.zeros((width, vocab)), jnp.zeros((count, length, width))
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert scratch(dense) >= 4 * count * length * vocab  # one array of all logits, at least
    assert scratch(chunked) <= scratch(dense) / 4


@pytest.mark.parametrize(
    ("hidden", "labels", "chunk_size", "message"),
    [
        ((2, 3, 6), (2, 4), 4, r"\(2, 3, 6\) and \(2, 4\)"),
        ((2, 3), (2, 3), 4, r"\(2, 3\) and \(2, 3\)"),
        ((2, 3, 6), (2, 3), 0, "chunk_size must be >= 1, got 0"),
    ],
)
def test_chunks_refuse(hidden, labels, chunk_size, message):
    labels = np.zeros(labels, np.int32)
    with pytest.raises(ValueError, match=message):
        unlearn.chunked_token_logprobs(tiny_head(chunk_size), params(), np.zeros(hidden), labels)
