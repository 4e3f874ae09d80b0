"""Filters against NumPy and transformers, draws against exact distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxlab.lm.config import stop_tokens
from jaxlab.lm.sampling import SamplingConfig, mark_seen, process_logits, sample


def reference(logits, sampling, seen=None):
    """The filters row by row in NumPy float64, with real sorts."""
    rows = []
    for b, row in enumerate(np.asarray(logits, np.float64)):
        row = row.copy()
        if seen is not None:
            p = sampling.repetition_penalty
            row = np.where(seen[b], np.where(row > 0, row / p, row * p), row)
        if sampling.temperature == 0:
            best = np.argmax(row)
            row[np.arange(row.size) != best] = -np.inf
            rows.append(row)
            continue
        row /= sampling.temperature
        if sampling.top_k:
            kth = np.sort(row)[-min(sampling.top_k, row.size)]
            row[row < kth] = -np.inf
        if sampling.top_p < 1:
            order = np.argsort(row, kind="stable")
            probs = np.exp(row[order] - row.max())
            cumulative = np.cumsum(probs / probs.sum())
            drop = cumulative <= 1 - sampling.top_p
            drop[-1] = False
            row[order[drop]] = -np.inf
        if sampling.min_p:
            probs = np.exp(row - row.max())
            row[probs < sampling.min_p] = -np.inf
        rows.append(row)
    return np.stack(rows)


SETTINGS = [
    SamplingConfig(),
    SamplingConfig(temperature=0.0),
    SamplingConfig(temperature=0.6, top_k=5),
    SamplingConfig(top_p=0.7),
    SamplingConfig(min_p=0.1),
    SamplingConfig(temperature=1.7, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.4),
    SamplingConfig(temperature=0.0, repetition_penalty=3.0),
    SamplingConfig(top_k=1000, top_p=1e-6),
]


jitted_filters = jax.jit(process_logits, static_argnums=1)


@pytest.mark.parametrize("sampling", SETTINGS)
def test_filters_equal_the_sorted_definition(sampling):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 50)).astype(np.float32) * 3
    seen = rng.random((6, 50)) < 0.3
    for run in (process_logits, jitted_filters):
        ours = run(jnp.asarray(logits), sampling, seen=jnp.asarray(seen))
        np.testing.assert_allclose(ours, reference(logits, sampling, seen), rtol=1e-5)


@pytest.mark.parametrize("sampling", [s for s in SETTINGS if s.temperature])  # theirs is not 0
def test_filters_equal_those_of_transformers(sampling, from_peer):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 60)).astype(np.float32) * 3
    ids = rng.integers(0, 60, (4, 7))

    def theirs():
        import torch
        from transformers.generation import logits_process as process

        steps = [
            process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            process.TemperatureLogitsWarper(sampling.temperature),
        ]
        if sampling.top_k:
            steps.append(process.TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            steps.append(process.TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            steps.append(process.MinPLogitsWarper(sampling.min_p))
        filtered = torch.tensor(logits)
        for step in steps:
            filtered = step(torch.tensor(ids), filtered)
        return {"logits": filtered}

    seen = mark_seen(jnp.zeros(logits.shape, bool), jnp.asarray(ids))
    ours = process_logits(jnp.asarray(logits), sampling, seen=seen)
    want = from_peer(theirs, "transformers", "torch")
    np.testing.assert_allclose(ours, want["logits"], rtol=1e-5)


def test_ties():
    level = jnp.zeros((1, 4))
    kept = np.isfinite(process_logits(level, SamplingConfig(top_p=0.5)))
    np.testing.assert_array_equal(kept, [[False, False, True, True]])
    tied = jnp.array([[3.0, 1.0, 2.0, 2.0, 0.0]])
    kept = np.isfinite(process_logits(tied, SamplingConfig(top_k=2)))
    np.testing.assert_array_equal(kept, [[True, False, True, True, False]])
    greedy = process_logits(jnp.array([[1.0, 2.0, 2.0]]), SamplingConfig(temperature=0.0))
    np.testing.assert_array_equal(greedy, [[-np.inf, 2.0, -np.inf]])


@given(
    st.lists(st.integers(-8, 8), min_size=32, max_size=32),
    st.sampled_from([s for s in SETTINGS if s.temperature and s.repetition_penalty == 1]),
)
def test_filters_keep_the_best_and_only_remove(values, sampling):
    logits = jnp.array([values], jnp.float32) / 2
    processed = np.asarray(jitted_filters(logits, sampling))
    tempered = np.asarray(logits / sampling.temperature)
    kept = np.isfinite(processed)
    assert kept.any()
    assert processed.max() == tempered.max()
    np.testing.assert_allclose(processed[kept], tempered[kept], rtol=1e-6)


@pytest.mark.parametrize("vocab", [5, 256, 700])
def test_draws_follow_the_distribution(vocab):
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=vocab) * 1.5, jnp.float32)
    config = SamplingConfig(temperature=0.8, top_k=vocab - 2)
    count = 20_000
    keys = jax.random.split(jax.random.key(0), count)
    one = jax.jit(jax.vmap(lambda key: sample(key[None], logits[None], config)[0][0]))
    tokens = np.asarray(one(keys))
    probs = np.asarray(jax.nn.softmax(process_logits(logits[None], config)[0]), np.float64)
    observed = np.bincount(tokens, minlength=vocab)
    assert observed[probs == 0].sum() == 0
    expected = probs / probs.sum() * count
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3


def test_a_token_of_probability_zero_is_never_drawn():
    logits = jnp.full((1, 1000), -jnp.inf).at[0, jnp.array([3, 511, 998])].set(0.0)
    keys = jax.random.split(jax.random.key(1), 500)
    tokens = jax.vmap(lambda key: sample(key[None], logits, SamplingConfig())[0][0])(keys)
    assert set(np.asarray(tokens).tolist()) == {3, 511, 998}


def test_a_row_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(2), 5)
    logits = jax.random.normal(jax.random.key(3), (5, 30))
    together, _ = sample(keys, logits, SamplingConfig())
    for row in range(5):
        alone, _ = sample(keys[row : row + 1], logits[row : row + 1], SamplingConfig())
        assert alone[0] == together[row]
    assert together.dtype == jnp.int32


def test_seen_counts_only_valid_tokens():
    seen = mark_seen(
        jnp.zeros((2, 6), bool), jnp.array([[1, 2], [3, 3]]), jnp.array([[True, False]] * 2)
    )
    np.testing.assert_array_equal(np.argwhere(seen), [[0, 1], [1, 3]])


def test_stop_tokens_take_an_int_a_list_or_none():
    for one in (3, np.int64(3), np.array(3), jnp.int32(3)):
        assert stop_tokens(one) == (3,)
    assert stop_tokens([np.int32(1), 2]) == (1, 2)
    assert stop_tokens(None) == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"temperature": float("nan")},
    ],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SamplingConfig(**bad)


def test_bad_shapes_and_keys():
    logits = jnp.zeros((2, 5))
    with pytest.raises(ValueError, match="logits"):
        process_logits(logits[0], SamplingConfig())
    with pytest.raises(ValueError, match="seen"):
        process_logits(logits, SamplingConfig(), seen=jnp.zeros((2, 4), bool))
    with pytest.raises(ValueError, match="one key per row"):
        sample(jax.random.split(jax.random.key(0), 3), logits, SamplingConfig())
    with pytest.raises(ValueError, match="typed"):
        sample(jax.random.PRNGKey(0), logits, SamplingConfig())
