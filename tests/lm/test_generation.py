"""Generation against step-by-step full forward passes, itself in other forms, and transformers."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.lm import generation
from tests.lm import peer_models, record_generation, tiny

GREEDY = lm.SamplingConfig(temperature=0)
CFG = tiny.config()
PARAMS = tiny.perturbed(CFG)
TOKENS, MASK = tiny.padded_batch()
KEY = jax.random.key(7)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "qwen3", "shifted"])
def test_greedy_equals_full_forward_passes(variant):
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    result = lm.generate(
        KEY, params, cfg, TOKENS, attention_mask=MASK, max_new_tokens=6, sampling=GREEDY
    )
    forward = jax.jit(lambda tokens, mask: lm.forward(params, cfg, tokens, attention_mask=mask))
    for row in range(3):
        text = TOKENS[row][MASK[row]].tolist()
        for step in range(6):
            padding = 26 - len(text)
            mask = np.arange(26) < len(text)
            logits = forward(np.array([text + [0] * padding]), mask[None]).logits[0, len(text) - 1]
            token = int(jnp.argmax(logits))
            assert result.tokens[row, step] == token
            log_prob = jax.nn.log_softmax(logits)[token]
            np.testing.assert_allclose(result.logprobs[row, step], log_prob, atol=1e-4)
            text.append(token)


def sampled(**changes):
    settings = {"max_new_tokens": 12, "attention_mask": MASK, "sampling": lm.SamplingConfig()}
    return lm.generate(KEY, PARAMS, CFG, TOKENS, **settings | changes)


def test_rows_and_padding_do_not_matter():
    batch = sampled()
    for row in range(3):
        alone = lm.generate(
            jax.random.fold_in(KEY, row)[None],
            PARAMS,
            CFG,
            TOKENS[row][MASK[row]][None],
            max_new_tokens=12,
        )
        np.testing.assert_array_equal(alone.tokens[0], batch.tokens[row])
    more_padding = ((0, 0), (5, 3))
    padded = lm.generate(
        KEY,
        PARAMS,
        CFG,
        np.pad(TOKENS, more_padding),
        attention_mask=np.pad(MASK, more_padding).astype(np.int32),
        max_new_tokens=12,
    )
    np.testing.assert_array_equal(padded.tokens, batch.tokens)


@pytest.mark.parametrize(
    ("chunk", "changes"),
    [
        (1, {}),
        (5, {"sampling": lm.SamplingConfig(temperature=0.7, top_p=0.9, repetition_penalty=1.3)}),
        (16, {"eos_ids": range(0, 97, 6), "pad_id": 96}),
        (5, {"eos_ids": range(0, 97, 6), "pad_id": 96}),
    ],
)
def test_stream_equals_generate(chunk, changes):
    whole = sampled(**changes)
    settings = {"max_new_tokens": 12, "attention_mask": MASK, **changes}
    blocks = list(lm.stream_generate(KEY, PARAMS, CFG, TOKENS, chunk=chunk, **settings))
    assert all(block.shape[1] <= chunk for block in blocks)
    joined = np.concatenate(blocks, axis=1)
    np.testing.assert_array_equal(joined, whole.tokens[:, : int(whole.steps)])


def test_stops_at_stop_tokens():
    free = sampled()
    stop = int(free.tokens[1, 2])
    result = sampled(eos_ids=[stop], pad_id=95)
    for row in range(3):
        tokens = np.asarray(free.tokens[row]).tolist()
        length = tokens.index(stop) + 1 if stop in tokens else 12
        assert result.lengths[row] == length
        np.testing.assert_array_equal(result.tokens[row, :length], tokens[:length])
        assert (np.asarray(result.tokens)[row, length:] == 95).all()
        assert not np.asarray(result.logprobs)[row, length:].any()
    assert result.steps == result.lengths.max()


def test_stops_at_sequences_also_across_blocks():
    free = np.asarray(sampled().tokens)
    sequence = free[0, 3:6].tolist()
    result = sampled(stop_sequences=[sequence], pad_id=95)
    assert result.lengths[0] == 6
    settings = {"max_new_tokens": 12, "attention_mask": MASK, "pad_id": 95}
    blocks = lm.stream_generate(
        KEY, PARAMS, CFG, TOKENS, chunk=4, stop_sequences=[sequence], **settings
    )
    joined = np.concatenate(list(blocks), axis=1)
    np.testing.assert_array_equal(joined, result.tokens[:, : joined.shape[1]])


def test_defaults_come_from_the_config():
    cfg = tiny.config(eos_ids=tuple(range(0, 97, 5)))
    result = lm.generate(KEY, PARAMS, cfg, TOKENS, attention_mask=MASK, max_new_tokens=12)
    same = sampled(eos_ids=range(0, 97, 5), pad_id=0)
    np.testing.assert_array_equal(result.tokens, same.tokens)
    chex.assert_trees_all_equal(sampled(eos_ids=()), sampled())


def test_a_new_prompt_length_compiles_nothing():
    lm.generate(KEY, PARAMS, CFG, TOKENS[:, :17], max_new_tokens=5)
    compiled = generation._generate._cache_size()
    for length in (18, 20, 25, 31, 32):
        tokens = np.ones((3, length), np.int32)
        lm.generate(KEY, PARAMS, CFG, tokens, max_new_tokens=5)
    assert generation._generate._cache_size() == compiled


def test_buckets_respect_the_model():
    cfg = tiny.config()  # 64 positions
    lengths = [generation.prompt_bucket(cfg, n, 10) for n in (1, 16, 17, 32, 33, 54)]
    assert lengths == [16, 16, 32, 32, 54, 54]
    scaling = lm.RopeScaling(
        "longrope", original_max_seq_len=40, short_factor=(1.0,) * 6, long_factor=(2.0,) * 6
    )
    cfg = tiny.config(rope_scaling=scaling)
    # 25 + 10 fit the short factors, so padding must not push the cache over 40 slots.
    assert [generation.prompt_bucket(cfg, n, 10) for n in (25, 30, 31)] == [30, 30, 32]


def test_under_jit_and_vmap():
    def run(key, params, tokens, mask):
        return lm.generate(key, params, CFG, tokens, attention_mask=mask, max_new_tokens=6).tokens

    plain = run(KEY, PARAMS, TOKENS, MASK)
    np.testing.assert_array_equal(jax.jit(run)(KEY, PARAMS, TOKENS, MASK), plain)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS)
    stacked = jax.vmap(run, in_axes=(None, 0, None, None))(KEY, two, TOKENS, MASK)
    np.testing.assert_array_equal(stacked, [plain, plain])


def test_lora_and_bfloat16():
    lora = lm.init_lora(jax.random.key(1), PARAMS, rank=4, alpha=8.0)
    lora = jax.tree.map(lambda x: x + 0.1, lora)
    merged = lm.merge_lora(PARAMS, lora)
    adapted = sampled(lora=lora, sampling=GREEDY)
    expected = lm.generate(
        KEY, merged, CFG, TOKENS, attention_mask=MASK, max_new_tokens=12, sampling=GREEDY
    )
    np.testing.assert_array_equal(adapted.tokens, expected.tokens)
    half = sampled(compute_dtype=jnp.bfloat16, cache_dtype=jnp.float32)
    assert half.logprobs.dtype == jnp.float32
    assert np.isfinite(half.logprobs).all()


def test_generation_config(tmp_path):
    assert generation.generation_defaults(tmp_path) == {}
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [3, 4], "pad_token_id": 5, "temperature": 0.5}))
    assert generation.generation_defaults(tmp_path) == {
        "sampling": GREEDY,
        "eos_ids": (3, 4),
        "pad_id": 5,
    }
    file.write_text(
        json.dumps({"do_sample": True, "top_p": 0.8, "eos_token_id": 3, "max_new_tokens": 9})
    )
    assert generation.generation_defaults(tmp_path) == {
        "sampling": lm.SamplingConfig(top_k=50, top_p=0.8),
        "eos_ids": (3,),
        "max_new_tokens": 9,
    }


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"max_new_tokens": 45}, "max_seq_len"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"attention_mask": MASK & (np.arange(3) != 1)[:, None]}, "row 1 is empty"),
        ({"attention_mask": MASK[:, :5]}, "attention_mask"),
        ({"stop_sequences": [()]}, "empty sequence"),
    ],
)
def test_bad_settings(changes, match):
    with pytest.raises(ValueError, match=match):
        sampled(**changes)


@pytest.mark.parametrize(
    ("key", "tokens", "match"),
    [
        (jax.random.split(KEY, 2), TOKENS, "shape"),
        (jax.random.PRNGKey(0), TOKENS, "typed"),
        (KEY, TOKENS[0], "B, T"),
        (KEY, TOKENS.astype(np.float32), "integers"),
        (KEY, TOKENS[:, :0], "empty"),
        (KEY, TOKENS + 80, "vocabulary"),
        (KEY, TOKENS - 80, "vocabulary"),
    ],
)
def test_bad_prompts(key, tokens, match):
    for run in (lm.generate, lm.stream_generate):
        with pytest.raises(ValueError, match=match):
            run(key, PARAMS, CFG, tokens, max_new_tokens=4)


def test_bad_chunk():
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        lm.stream_generate(KEY, PARAMS, CFG, TOKENS, max_new_tokens=4, chunk=0)


@pytest.mark.parametrize("case", record_generation.CASES)
def test_greedy_equals_transformers(case, tmp_path):
    pytest.importorskip("safetensors")
    golden = np.load(record_generation.GOLDEN)
    shapes = json.loads(str(golden[f"{case}/shapes"]))
    record_generation.write_folder(tmp_path, str(golden[f"{case}/config"]), shapes)
    cfg, params = lm.load_hf(tmp_path)
    tokens, mask = record_generation.left_padded_batch()
    result = lm.generate(
        KEY,
        params,
        cfg,
        tokens,
        attention_mask=mask,
        max_new_tokens=record_generation.NEW_TOKENS,
        sampling=GREEDY,
        eos_ids=(),
    )
    np.testing.assert_array_equal(result.tokens, golden[f"{case}/tokens"])


@pytest.mark.parametrize("case", record_generation.CASES)
def test_transformers_still_says_what_was_recorded(case):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    golden = np.load(record_generation.GOLDEN)
    live = record_generation.greedy(peer_models.build(case))
    np.testing.assert_array_equal(live, golden[f"{case}/tokens"])
