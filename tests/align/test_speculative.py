"""The driver on a sampler without a model: exact, against a second implementation."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import align
from tests.align.toy import mean_reward, sum_reward, toy_policy, toy_tokens

KEY = jax.random.key(3)
PROMPT = np.array([1, 5], np.int32)
CFG = align.SpecRejConfig(max_new_tokens=30, capacity_tokens=16 * 6, n_init=16, eos_ids=(0,))


def responses(n, cfg, key=KEY):
    """All rows in full, cut at the stop token: (tokens, lengths), by a loop."""
    tokens = toy_tokens(align.row_keys(key, n), np.arange(cfg.max_new_tokens))
    lengths = []
    for row in tokens:
        stops = [t for t, token in enumerate(row) if token in cfg.eos_ids]
        lengths.append(stops[0] + 1 if stops else cfg.max_new_tokens)
        row[lengths[-1] :] = cfg.pad_id
    return tokens, np.array(lengths)


def slow_search(cfg, reward, key=KEY):
    """Algorithm 1 over complete responses, in plain Python: pool {row: score} and the account."""
    n = align.initial_rows(PROMPT.size, cfg)
    tokens, lengths = responses(n, cfg, key)
    active, done, pool = list(range(n)), 0, {}
    generated = computed = scored = rounds = 0
    while active:
        bucket, new = align.plan_round(len(active), done, PROMPT.size, cfg)
        stop = done + new
        part = np.minimum(lengths[active], stop)
        generated += sum(int(length) - done for length in part)
        computed += bucket * new
        scored += sum(int(length) + PROMPT.size for length in part)
        scores = dict(zip(active, reward(PROMPT, tokens[active, :stop], part), strict=True))
        ranked = sorted(active, key=lambda row: (-scores[row], row))
        accepted = set(ranked[: align.n_keep(len(active), cfg.alpha)])
        ended = {row for row in active if lengths[row] <= stop}
        if stop == cfg.max_new_tokens:
            ended, accepted = set(active), set(active)
        kept = ended if cfg.keep_finished else ended & accepted
        pool |= {row: scores[row] for row in kept}
        active = sorted(accepted - ended)
        done, rounds = stop, rounds + 1
    return pool, (generated, computed, scored, rounds)


def account(result):
    return (
        result.tokens_generated,
        result.tokens_computed,
        result.reward_tokens,
        result.reward_calls,
    )


@given(
    seed=st.integers(0, 1000),
    alpha=st.sampled_from((0.2, 0.5, 0.75, 0.9)),
    n_init=st.sampled_from((1, 2, 7, 16, 24)),
    keep_finished=st.booleans(),
    prefix_shared=st.booleans(),
    reward=st.sampled_from((sum_reward, mean_reward)),
)
def test_equals_algorithm_1_over_complete_responses(
    seed, alpha, n_init, keep_finished, prefix_shared, reward
):
    cfg = dataclasses.replace(
        CFG,
        alpha=alpha,
        n_init=n_init,
        capacity_tokens=n_init * 6,
        keep_finished=keep_finished,
        prefix_shared=prefix_shared,
    )
    key = jax.random.key(seed)
    pool, cost = slow_search(cfg, reward, key)
    result = align.speculative_rejection(key, toy_policy(), reward, PROMPT, cfg)
    assert dict(zip(result.pool_rows, result.pool_scores, strict=True)) == pytest.approx(pool)
    assert account(result) == cost
    best = min(pool, key=lambda row: (-pool[row], row))
    assert result.row == best
    tokens, lengths = responses(n_init, cfg, key)
    np.testing.assert_array_equal(result.tokens, tokens[best])
    np.testing.assert_array_equal(result.pool_tokens, tokens[result.pool_rows])
    assert result.length == lengths[best]


def test_alpha_zero_is_best_of_n():
    cfg = dataclasses.replace(CFG, alpha=0.0, capacity_tokens=16 * 32)
    result = align.speculative_rejection(KEY, toy_policy(), sum_reward, PROMPT, cfg)
    every = align.best_of_n(
        KEY, toy_policy(), sum_reward, PROMPT, n=16, max_new_tokens=30, eos_ids=0
    )
    np.testing.assert_array_equal(result.pool_rows, np.arange(16))
    np.testing.assert_array_equal(result.pool_tokens, every.all_tokens)
    np.testing.assert_array_equal(result.pool_scores, every.all_scores)
    assert result.row == every.row


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_never_beats_best_of_n_init_and_equals_it_where_ranks_are_final(alpha):
    cfg = dataclasses.replace(CFG, alpha=alpha, eos_ids=())
    quality = {}

    def true_rank(prompt, tokens, lengths):
        # The first three tokens decide, and every round has at least those.
        return tokens[:, 0] * 144.0 + tokens[:, 1] * 12 + tokens[:, 2]

    for seed in range(10):
        key = jax.random.key(seed)
        for reward in (sum_reward, true_rank):
            search = align.speculative_rejection(key, toy_policy(), reward, PROMPT, cfg)
            every = align.best_of_n(key, toy_policy(), reward, PROMPT, n=16, max_new_tokens=30)
            quality.setdefault(reward, []).append(every.score - search.score)
    assert min(quality[sum_reward]) >= 0
    assert quality[true_rank] == [0.0] * 10


def test_calls_match_the_plan_and_pruned_rows_are_not_generated():
    cfg = dataclasses.replace(CFG, eos_ids=())
    log, stats = [], []
    result = align.speculative_rejection(
        KEY, toy_policy(log), sum_reward, PROMPT, cfg, on_round=stats.append
    )
    plan = align.plan_schedule(PROMPT.size, cfg)
    ends = [2 + r.start_length + r.new_tokens for r in plan]
    expected = [("start", 16, ends[0]), ("extend", 16, plan[0].new_tokens)]
    for r, end in zip(plan[1:], ends[1:], strict=True):
        expected += [("gather", r.bucket, end), ("extend", r.bucket, r.new_tokens)]
    assert log == expected
    assert tuple(stats) == result.rounds
    assert [(r.active, r.bucket, r.start_length, r.new_tokens) for r in stats] == list(plan)
    assert [r.index for r in stats] == list(range(len(plan)))
    assert [r.finished for r in stats] == [0] * (len(plan) - 1) + [plan[-1].active]
    assert [r.kept for r in stats] == [align.n_keep(r.active, 0.5) for r in plan]
    assert all(r.best >= r.cutoff and r.seconds > 0 for r in stats)
    assert result.tokens_computed == sum(r.bucket * r.new_tokens for r in plan)
    assert result.tokens_computed < 16 * 30 / 2
    assert result.rounds[-1].best == result.score


def test_the_reward_sees_the_active_rows_alone_in_order_with_lengths_and_pads():
    cfg = dataclasses.replace(CFG, n_init=11, capacity_tokens=66, pad_id=-1)
    seen = []

    def reward(prompt, tokens, lengths):
        seen.append((tokens.copy(), lengths.copy()))
        return sum_reward(prompt, tokens, lengths)

    result = align.speculative_rejection(KEY, toy_policy(), reward, PROMPT, cfg)
    whole, full_lengths = responses(11, cfg)
    for (tokens, lengths), stats in zip(seen, result.rounds, strict=True):
        stop = stats.start_length + stats.new_tokens
        assert tokens.shape == (stats.active, stop)
        assert tokens.dtype == lengths.dtype == np.int32
        rows = [np.flatnonzero((whole[:, :3] == row[:3]).all(axis=1))[0] for row in tokens]
        assert rows == sorted(set(rows))
        np.testing.assert_array_equal(lengths, np.minimum(full_lengths[rows], stop))
        for row, length in zip(tokens, lengths, strict=True):
            assert (row[length:] == -1).all()


def test_equal_scores_keep_the_smaller_rows():
    result = align.speculative_rejection(
        KEY,
        toy_policy(),
        lambda prompt, tokens, lengths: np.zeros(len(tokens)),
        PROMPT,
        dataclasses.replace(CFG, eos_ids=()),
    )
    assert result.row == 0
    assert result.pool_rows.tolist() == list(range(result.rounds[-1].active))


def test_minus_infinity_ranks_last():
    def reward(prompt, tokens, lengths):
        scores = sum_reward(prompt, tokens, lengths)
        return np.where(scores == scores.max(), scores, -np.inf)

    result = align.speculative_rejection(KEY, toy_policy(), reward, PROMPT, CFG)
    assert np.isfinite(result.score)


def test_many_prompts_fold_their_number_into_the_key():
    prompts, rounds = [PROMPT, np.array([7, 7], np.int32)], []
    results = align.speculative_rejection_many(
        KEY, toy_policy(), sum_reward, prompts, CFG, on_round=rounds.append
    )
    for i, result in enumerate(results):
        alone = align.speculative_rejection(
            jax.random.fold_in(KEY, i), toy_policy(), sum_reward, prompts[i], CFG
        )
        np.testing.assert_array_equal(result.tokens, alone.tokens)
        assert account(result) == account(alone)
    assert len(rounds) == sum(len(result.rounds) for result in results)


@pytest.mark.parametrize(
    ("prompt", "reward", "message"),
    [
        (np.zeros(0, np.int32), sum_reward, "prompt must be"),
        (np.ones((1, 2), np.int32), sum_reward, "prompt must be"),
        (np.ones(2), sum_reward, "prompt must be"),
        (PROMPT, lambda p, t, n: np.zeros((len(t), 1)), r"shape \(16, 1\).*shape \(16,\)"),
        (PROMPT, lambda p, t, n: 0.0, r"shape \(\) .*shape \(16,\)"),
        (PROMPT, lambda p, t, n: np.where(np.arange(16) == 5, np.nan, 0), r"NaN for rows \[5\]"),
    ],
)
def test_refuses(prompt, reward, message):
    with pytest.raises(ValueError, match=message):
        align.speculative_rejection(KEY, toy_policy(), reward, prompt, CFG)


def test_refuses_a_capacity_that_cannot_work():
    with pytest.raises(ValueError, match="capacity"):
        align.speculative_rejection(
            KEY, toy_policy(), sum_reward, PROMPT, dataclasses.replace(CFG, capacity_tokens=40)
        )
    with pytest.raises(ValueError, match="alpha"):
        align.speculative_rejection(
            KEY, toy_policy(), sum_reward, PROMPT, dataclasses.replace(CFG, alpha=0.0)
        )
