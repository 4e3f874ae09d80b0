import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import align, lm
from jaxlab.align import policy as policies
from tests.align.models import PROMPT_LEN, SAMPLING, causal, prompt
from tests.align.toy import sum_reward

KEY = jax.random.key(0)


def rollout(policy, keys, segments, gathers=()):
    """All tokens and log-probabilities; `gathers` are rows taken after each segment."""
    length = PROMPT_LEN + segments[0]
    state = policy.start(keys, prompt(), length)
    out = []
    for number, size in enumerate(segments):
        state, tokens, logprobs = policy.extend(state, size)
        out.append((np.asarray(tokens), np.asarray(logprobs)))
        if number + 1 < len(segments):
            length += segments[number + 1]
            rows = gathers[number] if gathers else np.arange(len(tokens))
            state = policy.gather(state, rows, length)
    return out


@pytest.mark.parametrize(
    ("variant", "changes"), [("llama", {}), ("gpt2", {}), ("shifted", {"windows": (5, 5)})]
)
def test_draws_what_generate_draws(variant, changes):
    cfg, params = causal(variant, **changes)
    policy = align.lm_policy(params, cfg, sampling=SAMPLING)
    keys = align.row_keys(KEY, 4)
    pieces = rollout(policy, keys, (3, 4, 5))
    tokens, logprobs = (np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True))
    expected = lm.generate(
        KEY, params, cfg, np.tile(prompt(), (4, 1)), max_new_tokens=12, sampling=SAMPLING,
        eos_ids=(),
    )  # fmt: skip
    np.testing.assert_array_equal(tokens, expected.tokens)
    np.testing.assert_allclose(logprobs, expected.logprobs, atol=1e-4)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    cfg, params = causal()
    policy = align.lm_policy(params, cfg, sampling=SAMPLING)
    keys = align.row_keys(KEY, 6)
    (whole, _), (rest, _) = rollout(policy, keys, (4, 6))
    (first, _), (part, _) = rollout(policy, keys, (4, 6), [np.array([1, 4, 4])])
    np.testing.assert_array_equal(whole, first)
    np.testing.assert_array_equal(part, rest[[1, 4, 4]])
    alone = rollout(policy, keys[4:5], (10,))[0][0]
    np.testing.assert_array_equal(alone[0], np.concatenate([whole[4], rest[4]]))


def test_repeated_rows_take_keys_of_their_own():
    cfg, params = causal()
    policy = align.lm_policy(params, cfg)
    state = policy.start(align.row_keys(KEY, 2), prompt(), PROMPT_LEN + 3)
    state, _, _ = policy.extend(state, 3)
    state = policy.gather(
        state, np.zeros(5, np.int32), PROMPT_LEN + 9, row_keys=align.row_keys(KEY, 5)
    )
    _, tokens, _ = policy.extend(state, 6)
    assert len({row.tobytes() for row in np.asarray(tokens)}) == 5


def test_the_repetition_penalty_remembers_prompt_and_segments():
    cfg, params = causal()
    sampling = lm.SamplingConfig(repetition_penalty=5.0)
    policy = align.lm_policy(params, cfg, sampling=sampling)
    pieces = rollout(policy, align.row_keys(KEY, 3), (4, 8))
    expected = lm.generate(
        KEY, params, cfg, np.tile(prompt(), (3, 1)), max_new_tokens=12, sampling=sampling,
        eos_ids=(),
    )  # fmt: skip
    np.testing.assert_array_equal(np.hstack([piece[0] for piece in pieces]), expected.tokens)


def test_padding_on_the_left_changes_nothing():
    cfg, params = causal()
    plain = align.lm_policy(params, cfg)
    padded = align.lm_policy(params, cfg, prompt_pad_id=0)
    keys = align.row_keys(KEY, 3)
    _, expected, _ = plain.extend(plain.start(keys, prompt(), PROMPT_LEN + 6), 6)
    longer = jnp.pad(prompt(), (3, 0))
    _, tokens, _ = padded.extend(padded.start(keys, longer, PROMPT_LEN + 9), 6)
    np.testing.assert_array_equal(tokens, expected)


def test_adapters_and_half_precision():
    cfg, params = causal()
    adapter = lm.init_lora(KEY, params, rank=2, alpha=4.0)
    adapter = jax.tree.map(lambda x: x + 0.1, adapter)
    merged = align.lm_policy(lm.merge_lora(params, adapter), cfg)
    beside = align.lm_policy(params, cfg, lora=adapter)
    keys = align.row_keys(KEY, 3)
    expected = rollout(merged, keys, (6,))[0]
    np.testing.assert_allclose(rollout(beside, keys, (6,))[0][1], expected[1], atol=1e-3)
    half = align.lm_policy(params, cfg, compute_dtype=jnp.bfloat16)
    state = half.start(keys, prompt(), PROMPT_LEN + 2)
    assert state.cache.k.dtype == jnp.bfloat16
    assert half.extend(state, 2)[2].dtype == jnp.float32


def test_the_cache_has_exactly_the_slots_asked_for():
    cfg, params = causal()
    policy = align.lm_policy(params, cfg)
    state = policy.start(align.row_keys(KEY, 4), prompt(), 11)
    assert state.cache.k.shape == (2, 4, 11, 2, 12)
    state = policy.gather(state, np.array([3, 0]), 20)
    assert state.cache.k.shape == (2, 2, 20, 2, 12)


def test_the_callers_keys_survive_the_donation():
    cfg, params = causal()
    policy = align.lm_policy(params, cfg)
    for count in (1, 3):
        keys = align.row_keys(KEY, count)
        state = policy.start(keys, prompt(), PROMPT_LEN + 2)
        policy.extend(state, 2)
        assert not keys.is_deleted()
        state = policy.start(keys, prompt(), PROMPT_LEN + 2)
        state = policy.gather(state, np.arange(count), PROMPT_LEN + 2, row_keys=keys)
        policy.extend(state, 2)
        assert not keys.is_deleted()


@pytest.mark.parametrize("alpha", [0.5, 0.75])
def test_speculative_rejection_returns_rows_of_best_of_n(alpha):
    cfg, params = causal()
    policy = align.lm_policy(params, cfg, sampling=SAMPLING)
    every = align.best_of_n(
        KEY, policy, sum_reward, prompt(), n=12, max_new_tokens=24, eos_ids=(3, 4)
    )
    search = align.SpecRejConfig(
        max_new_tokens=24, capacity_tokens=12 * 9, n_init=12, alpha=alpha, eos_ids=(3, 4)
    )
    result = align.speculative_rejection(KEY, policy, sum_reward, prompt(), search)
    rows = result.pool_rows
    np.testing.assert_array_equal(result.pool_tokens, every.all_tokens[rows])
    np.testing.assert_array_equal(result.pool_lengths, every.all_lengths[rows])
    assert result.score <= every.score
    assert result.tokens_computed < every.tokens_computed


def test_a_second_prompt_of_the_same_length_compiles_nothing():
    cfg, params = causal()
    search = align.SpecRejConfig(max_new_tokens=9, capacity_tokens=8 * 7, n_init=8)

    def run(text):
        align.speculative_rejection(KEY, align.lm_policy(params, cfg), sum_reward, text, search)
        return [f._cache_size() for f in (policies._prefill, policies._gather, policies._extend)]

    assert run(prompt()) == run(prompt()[::-1])


def test_refuses():
    cfg, params = causal(max_seq_len=16)
    policy = align.lm_policy(params, cfg)
    keys = align.row_keys(KEY, 2)
    with pytest.raises(ValueError, match="max_seq_len of 16"):
        policy.start(keys, prompt(), 17)
    with pytest.raises(ValueError, match="the vocabulary 0 to 30"):
        policy.start(keys, prompt() + 31, 8)
    state = policy.start(keys, prompt(), 8)
    with pytest.raises(ValueError, match="max_seq_len of 16"):
        policy.gather(state, np.arange(2), 17)
    with pytest.raises(ValueError, match="score head"):
        align.lm_policy(params, lm.LMConfig(**{**cfg.__dict__, "num_labels": 1}))
