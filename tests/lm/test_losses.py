"""Losses against float64 NumPy, and the recombination of sums and weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import lm
from jaxlab.lm.losses import cross_entropy
from tests.lm import tiny

CFG = tiny.config(n_layers=1)
PARAMS = tiny.perturbed(CFG)
TOKENS, MASK = tiny.padded_batch()


def _log_probs(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _expected(loss_mask, attention_mask, z_loss=0.0):
    logits = np.asarray(lm.forward(PARAMS, CFG, TOKENS, attention_mask=attention_mask).logits)
    log_probs = _log_probs(logits)
    normalizer = np.log(np.exp(logits.astype(np.float64)).sum(-1))
    total, weight = 0.0, 0
    for b in range(3):
        for t in range(1, 20):
            if loss_mask[b, t] and attention_mask[b, t] and attention_mask[b, t - 1]:
                total -= log_probs[b, t - 1, TOKENS[b, t]]
                total += z_loss * normalizer[b, t - 1] ** 2
                weight += 1
    return total, weight


@pytest.mark.parametrize("chunk", [0, 7, 64])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_next_token_loss_by_hand(chunk, z_loss):
    loss_mask = np.random.default_rng(5).integers(0, 2, (3, 20))
    batch = {"tokens": TOKENS, "loss_mask": loss_mask, "attention_mask": MASK, "row": None}
    got = lm.next_token_loss(PARAMS, CFG, batch, chunk=chunk, z_loss=z_loss)
    np.testing.assert_allclose(got, _expected(loss_mask, MASK, z_loss), rtol=1e-5)


@pytest.mark.parametrize("chunk", [0, 7])
def test_the_weight_of_the_normalizer_may_be_traced(chunk):
    def loss(z_loss):
        return lm.next_token_loss(PARAMS, CFG, {"tokens": TOKENS}, chunk=chunk, z_loss=z_loss)[0]

    want = [loss(z_loss) for z_loss in (0.0, 0.01)]
    np.testing.assert_allclose(jax.vmap(loss)(jnp.array([0.0, 0.01])), want, rtol=1e-5)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "phi"])
def test_chunked_gradient_equals_the_whole(variant):
    cfg = tiny.config(variant, n_layers=1)
    params = tiny.perturbed(cfg)

    def loss(params, chunk):
        return lm.next_token_loss(params, cfg, {"tokens": TOKENS}, chunk=chunk, z_loss=1e-3)[0]

    whole, parts = jax.grad(loss)(params, 0), jax.jit(jax.grad(loss), static_argnums=1)(params, 8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), whole, parts)


@given(seed=st.integers(0, 1000))
def test_any_split_of_a_batch_recombines(seed):
    loss_mask = np.random.default_rng(seed).integers(0, 2, (3, 20))
    batch = {"tokens": TOKENS, "loss_mask": loss_mask, "attention_mask": MASK}
    whole = np.array(lm.next_token_loss(PARAMS, CFG, batch))
    rows = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(3)]
    parts = np.sum([lm.next_token_loss(PARAMS, CFG, row) for row in rows], axis=0)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)


def test_nothing_to_count_is_zero_with_weight_zero():
    batch = {"tokens": TOKENS, "loss_mask": np.zeros((3, 20), bool)}
    assert [float(x) for x in lm.next_token_loss(PARAMS, CFG, batch)] == [0.0, 0.0]


def test_token_and_sequence_log_probs():
    out = lm.forward(PARAMS, CFG, TOKENS, attention_mask=MASK)
    log_probs = _log_probs(out.logits)
    rows, columns = np.arange(3)[:, None], np.arange(19)[None]
    expected = log_probs[rows, columns, TOKENS[:, 1:]]
    got = lm.token_log_probs(out.logits, TOKENS)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    counted = MASK[:, 1:] & MASK[:, :-1]
    loss_mask = np.zeros((3, 20), int)
    loss_mask[:, 10:] = 1
    total, count = lm.sequence_log_probs(PARAMS, CFG, TOKENS, attention_mask=MASK)
    np.testing.assert_allclose(total, (expected * counted).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(count, counted.sum(1))
    total, count = lm.sequence_log_probs(
        PARAMS, CFG, TOKENS, attention_mask=MASK, loss_mask=loss_mask
    )
    counted = counted & (loss_mask[:, 1:] > 0)
    np.testing.assert_allclose(total, (expected * counted).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(count, counted.sum(1))


def test_log_probs_of_packed_rows_are_those_of_each_document():
    segments = np.repeat([1, 2, 3], [8, 7, 5])[None].repeat(3, 0)
    total, count = lm.sequence_log_probs(PARAMS, CFG, TOKENS, segment_ids=segments)
    parts = [
        lm.sequence_log_probs(PARAMS, CFG, TOKENS[:, segments[0] == number]) for number in (1, 2, 3)
    ]
    np.testing.assert_allclose(total, sum(part[0] for part in parts), rtol=1e-5)
    np.testing.assert_array_equal(count, [17, 17, 17])


def test_scores_take_the_last_valid_token():
    cfg = tiny.config(num_labels=2)
    params = tiny.perturbed(cfg)
    out = lm.forward(params, cfg, TOKENS, attention_mask=MASK)
    assert out.logits is None
    last = np.asarray(out.hidden)[[0, 1, 2], [19, 19, 14]]
    scores = lm.sequence_scores(params, cfg, TOKENS, attention_mask=MASK)
    np.testing.assert_allclose(scores, last @ np.asarray(params["score"]["w"]), atol=1e-5)
    np.testing.assert_allclose(lm.sequence_scores(params, cfg, TOKENS)[0], scores[0], atol=1e-5)
    with pytest.raises(ValueError, match="num_labels"):
        lm.sequence_scores(PARAMS, CFG, TOKENS)
    with pytest.raises(ValueError, match="sequence_scores"):
        lm.next_token_loss(params, cfg, {"tokens": TOKENS})
    with pytest.raises(ValueError, match="sequence_scores"):
        lm.sequence_log_probs(params, cfg, TOKENS)


def test_gradient_of_the_cross_entropy_by_hand():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 11)), jnp.float32)
    labels = jnp.array([0, 10, 4])
    gradient = jax.grad(lambda x: jnp.sum(cross_entropy(x, labels)[0]))(logits)
    expected = np.exp(_log_probs(logits))
    expected[np.arange(3), labels] -= 1
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
