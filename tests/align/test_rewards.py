import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import align, lm
from jaxlab.align.rewards import in_chunks
from tests.align.models import causal, classifier, prompt

LENGTHS = np.array([4, 1, 7], np.int32)


def responses(seed=0, pad=0):
    tokens = np.random.default_rng(seed).integers(1, 31, (3, 7)).astype(np.int32)
    tokens[np.arange(7) >= LENGTHS[:, None]] = pad
    return tokens


@pytest.mark.parametrize("label", [0, 1])
def test_sequence_reward_scores_each_row_alone(label):
    cfg, params = classifier()
    reward = align.sequence_reward(params, cfg, label=label)
    scores = reward(np.asarray(prompt()), responses(), LENGTHS)
    for row, length, score in zip(responses(), LENGTHS, scores, strict=True):
        text = np.concatenate([prompt(), row[:length]])[None]
        expected = lm.sequence_scores(params, cfg, text)[0, label]
        assert score == pytest.approx(float(expected), abs=1e-5)
    other = reward(np.asarray(prompt()), responses(pad=9), LENGTHS)
    np.testing.assert_array_equal(scores, other)  # what stands after the end does not count


def test_sequence_reward_speaks_another_tokenizer():
    cfg, params = classifier()

    def template(prompt, tokens, lengths):
        """The other model reads every token one higher, without the prompt, padded on the left."""
        width = tokens.shape[1]
        mask = np.arange(width) >= width - lengths[:, None]
        moved = np.stack(
            [np.roll(row + 1, width - n) for row, n in zip(tokens, lengths, strict=True)]
        )
        return np.where(mask, moved % 31, 0), mask

    reward = align.sequence_reward(params, cfg, template=template)
    scores = reward(np.asarray(prompt()), responses(), LENGTHS)
    for row, length, score in zip(responses(), LENGTHS, scores, strict=True):
        expected = lm.sequence_scores(params, cfg, (row[None, :length] + 1) % 31)[0, 0]
        assert score == pytest.approx(float(expected), abs=1e-5)


def test_sequence_reward_refuses():
    cfg, params = causal()
    with pytest.raises(ValueError, match="score head"):
        align.sequence_reward(params, cfg)
    cfg, params = classifier()
    with pytest.raises(ValueError, match="label 2 of a model with num_labels 2"):
        align.sequence_reward(params, cfg, label=2)


def test_perplexity_reward_in_float64():
    cfg, params = causal()
    reward = align.perplexity_reward(params, cfg)
    scores = reward(np.asarray(prompt()), responses(), LENGTHS)
    for row, length, score in zip(responses(), LENGTHS, scores, strict=True):
        text = np.concatenate([prompt(), row[:length]])
        logits = np.asarray(lm.forward(params, cfg, text[None]).logits[0], np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        taken = log_probs[np.arange(4, 4 + length), text[5:]]
        assert score == pytest.approx(-np.exp(-taken.mean()), rel=1e-5)


def test_perplexity_reward_with_an_adapter():
    cfg, params = causal()
    adapter = jax.tree.map(
        lambda x: x + 0.1, lm.init_lora(jax.random.key(0), params, rank=2, alpha=4.0)
    )
    text = np.asarray(prompt()), responses(), LENGTHS
    np.testing.assert_allclose(
        align.perplexity_reward(params, cfg, lora=adapter)(*text),
        align.perplexity_reward(lm.merge_lora(params, adapter), cfg)(*text),
        rtol=1e-3,
    )


def test_reward_from_tokens_sees_prompt_and_lengths():
    def f(tokens, lengths):
        np.testing.assert_array_equal(tokens, [[7, 8, 1, 2], [7, 8, 3, 0]])
        np.testing.assert_array_equal(lengths, [4, 3])
        return lengths * 1.0

    reward = align.reward_from_tokens(f)
    scores = reward(np.array([7, 8]), np.array([[1, 2], [3, 0]]), np.array([2, 1]))
    np.testing.assert_array_equal(scores, [4, 3])


@pytest.mark.parametrize("chunk_tokens", [1, 20, 64, 10_000])
def test_chunks_are_a_matter_of_memory_alone(chunk_tokens):
    shapes = set()

    def score(tokens, mask):
        shapes.add(tokens.shape)
        return jnp.sum(tokens * mask, axis=1)

    tokens = np.random.default_rng(0).integers(0, 9, (11, 9))
    mask = np.arange(9) < np.arange(11)[:, None]
    scores = in_chunks(score, tokens, mask, chunk_tokens=chunk_tokens)
    np.testing.assert_array_equal(scores, (tokens * mask).sum(axis=1))
    ((rows, width),) = shapes
    assert width == 16
    assert rows * width <= max(chunk_tokens, 16)


def test_bradley_terry_loss():
    chosen, rejected = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.0, 0.5])
    gaps = np.array([1.0, -3.0, 0.0])
    expected = -np.log(1 / (1 + np.exp(-gaps))).mean()
    assert align.bradley_terry_loss(chosen, rejected) == pytest.approx(expected)
    gradient = jax.jit(jax.grad(align.bradley_terry_loss))(chosen, rejected)
    np.testing.assert_allclose(gradient, -1 / (1 + np.exp(gaps)) / 3, rtol=1e-6)
    assert np.isfinite(align.bradley_terry_loss(jnp.array([-1e4]), jnp.array([1e4])))
    with pytest.raises(ValueError, match="shapes must be equal"):
        align.bradley_terry_loss(chosen, rejected[:2])
