"""The key-value cache: decoding equals the full forward pass for any chunks and padding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.lm.cache import join_cache, split_cache, split_layers
from tests.lm import tiny


def _feed(params, cfg, tokens, mask, cuts, slots=24, **kw):
    cache = lm.init_cache(cfg, tokens.shape[0], slots)
    pieces = []
    for start, stop in itertools.pairwise(cuts):
        logits, cache = lm.extend(
            params, cfg, tokens[:, start:stop], cache, attention_mask=mask[:, start:stop], **kw
        )
        pieces.append(logits)
    return jnp.concatenate(pieces, axis=1), cache


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_chunks_and_single_tokens_equal_the_full_forward(variant):
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    tokens, mask = tiny.padded_batch()
    full = lm.forward(params, cfg, tokens, attention_mask=mask).logits
    logits, cache = _feed(params, cfg, tokens, mask, [0, 9, 10, 11, 12, 20])
    assert tiny.max_error(logits, full, mask) < 1e-4
    np.testing.assert_array_equal(cache.length, mask.sum(1))
    assert int(cache.index) == 20


@pytest.mark.parametrize("variant", ["llama", "gpt2", "qwen3", "shifted"])
def test_padding_side_is_irrelevant(variant):
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    tokens = np.random.default_rng(3).integers(0, 97, (1, 7))
    alone = lm.forward(params, cfg, tokens).logits
    pad = np.full((1, 4), 5)
    for side in ("left", "right"):
        parts = (pad, tokens) if side == "left" else (tokens, pad)
        mask = np.concatenate([np.zeros((1, 4)) if p is pad else np.ones((1, 7)) for p in parts], 1)
        padded = lm.forward(params, cfg, np.concatenate(parts, 1), attention_mask=mask).logits
        np.testing.assert_allclose(padded[mask > 0], alone[0], atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cache_works_where_64_bits_are_on(dtype):
    cfg = tiny.config()
    tokens, mask = tiny.padded_batch()
    want = lm.forward(tiny.perturbed(cfg), cfg, tokens, attention_mask=mask).logits
    params = jax.tree.map(np.asarray, tiny.perturbed(cfg))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
        logits, _ = _feed(params, cfg, tokens, mask, [0, 9, 10, 20])
        split = split_cache(lm.init_cache(cfg, 3, 20))
        both, _ = lm.extend(params, cfg, tokens, split, attention_mask=mask)
        result = lm.generate(jax.random.key(0), params, cfg, tokens, max_new_tokens=3)
    assert tiny.max_error(logits, want, mask) < 1e-4
    assert tiny.max_error(both, want, mask) < 1e-4
    assert result.tokens.dtype == jnp.int32


def test_last_only_gathers_the_last_valid_token():
    cfg = tiny.config()
    params = tiny.perturbed(cfg)
    tokens, mask = tiny.padded_batch()
    full, _ = _feed(params, cfg, tokens, mask, [0, 20])
    last, _ = lm.extend(
        params, cfg, tokens, lm.init_cache(cfg, 3, 20), attention_mask=mask, last_only=True
    )
    np.testing.assert_allclose(last, np.asarray(full)[[0, 1, 2], [19, 19, 14]], atol=1e-5)


def test_take_rows_and_resize_keep_the_content():
    cfg = tiny.config("shifted")
    params = tiny.perturbed(cfg)
    tokens, mask = tiny.padded_batch()
    _, cache = _feed(params, cfg, tokens[:, :12], mask[:, :12], [0, 12], slots=12)
    grown = lm.resize_cache(lm.take_rows(cache, jnp.array([2, 0, 0])), 16)
    assert grown.k.shape[1:3] == (3, 16)
    after, _ = lm.extend(params, cfg, tokens[[2, 0, 0], 12:15], grown)
    full = lm.forward(params, cfg, tokens[:, :15], attention_mask=mask[:, :15]).logits
    np.testing.assert_allclose(after, full[jnp.array([2, 0, 0]), 12:], atol=1e-4)
    assert lm.resize_cache(grown, 12).v.shape[2] == 12


@pytest.mark.parametrize("variant", ["llama", "gpt2", "qwen3", "shifted"])
@pytest.mark.parametrize("split_params", [False, True])
def test_a_split_cache_decodes_and_joins_to_the_same(variant, split_params):
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    tokens, mask = tiny.padded_batch()
    full = lm.forward(params, cfg, tokens, attention_mask=mask).logits
    _, cache = _feed(params, cfg, tokens[:, :9], mask[:, :9], [0, 9])
    split = split_cache(cache)
    again = join_cache(split)
    assert type(again) is lm.KVCache
    np.testing.assert_array_equal(again.k, cache.k)
    np.testing.assert_array_equal(again.v, cache.v)
    weights = split_layers(params) if split_params else params
    for start, stop in ((9, 10), (10, 11), (11, 14)):
        logits, split = lm.extend(
            weights, cfg, tokens[:, start:stop], split, attention_mask=mask[:, start:stop]
        )
        assert tiny.max_error(logits, full[:, start:stop], mask[:, start:stop]) < 1e-4
    logits, _ = lm.extend(
        params, cfg, tokens[:, 14:], join_cache(split), attention_mask=mask[:, 14:]
    )
    assert tiny.max_error(logits, full[:, 14:], mask[:, 14:]) < 1e-4


def test_extend_under_jit_with_donated_cache_does_not_retrace():
    cfg = tiny.config()
    params = tiny.perturbed(cfg)
    traces = []

    def step(params, tokens, cache):
        traces.append(1)
        return lm.extend(params, cfg, tokens, cache, last_only=True)

    step = jax.jit(step, donate_argnums=2)
    cache = lm.init_cache(cfg, 2, 8)
    for token in range(4):
        logits, cache = step(params, jnp.full((2, 1), token), cache)
    assert logits.shape == (2, 97)
    assert len(traces) == 1


@pytest.mark.parametrize(("batch", "slots"), [(0, 4), (1, 0), (-1, 4)])
def test_init_cache_rejects_empty_sizes(batch, slots):
    with pytest.raises(ValueError, match="batch_size and max_len must be >= 1"):
        lm.init_cache(tiny.config(), batch, slots)


def test_init_cache_rejects_more_slots_than_learned_positions():
    with pytest.raises(ValueError, match="max_seq_len"):
        lm.init_cache(tiny.config("gpt2"), 1, 65)


def test_extend_rejects_what_does_not_fit():
    cfg = tiny.config()
    params = tiny.perturbed(cfg)
    cache = lm.init_cache(cfg, 2, 6)
    with pytest.raises(ValueError, match="rows"):
        lm.extend(params, cfg, np.zeros((3, 2), int), cache)
    with pytest.raises(ValueError, match="slots"):
        lm.extend(params, cfg, np.zeros((2, 7), int), cache)
    _, cache = lm.extend(params, cfg, np.zeros((2, 5), int), cache)
    with pytest.raises(ValueError, match="5 of the cache's 6 slots"):
        lm.extend(params, cfg, np.zeros((2, 2), int), cache)
    with pytest.raises(ValueError, match="resize"):
        lm.resize_cache(cache, 4)
    judge = tiny.config(num_labels=2)
    with pytest.raises(ValueError, match="predicts no tokens; use sequence_scores"):
        lm.extend(params, judge, np.zeros((2, 2), int), lm.init_cache(judge, 2, 6))
