import dataclasses

import jax
import numpy as np
import pytest

from jaxlab import align
from tests.align.toy import mean_reward, sum_reward, toy_policy

KEY = jax.random.key(3)
PROMPT = np.array([1, 5], np.int32)
CFG = align.SpecRejConfig(max_new_tokens=30, capacity_tokens=16 * 6, n_init=16, eos_ids=(0,))


def account(result):
    return (
        result.tokens_generated,
        result.tokens_computed,
        result.reward_tokens,
        result.reward_calls,
    )


def test_a_replay_of_recorded_rows_is_the_same_search():
    every = align.best_of_n(KEY, toy_policy(), sum_reward, PROMPT, n=16, max_new_tokens=30)
    real = align.speculative_rejection(KEY, toy_policy(), sum_reward, PROMPT, CFG)
    replay = align.speculative_rejection(
        KEY, align.recorded_policy(every.all_tokens), sum_reward, PROMPT, CFG
    )
    assert real.row == replay.row
    assert account(real) == account(replay)
    np.testing.assert_array_equal(real.pool_tokens, replay.pool_tokens)
    with pytest.raises(ValueError, match="17 rows asked for, 16 were recorded"):
        align.recorded_policy(every.all_tokens).start(align.row_keys(KEY, 17), PROMPT, 30)
    policy = align.recorded_policy(every.all_tokens)
    with pytest.raises(ValueError, match="31 tokens asked for, 30 were recorded"):
        policy.extend(policy.start(align.row_keys(KEY, 2), PROMPT, 33), 31)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_lifetimes_are_those_of_the_search(alpha):
    cfg = dataclasses.replace(CFG, eos_ids=(), alpha=alpha)
    every = align.best_of_n(KEY, toy_policy(), mean_reward, PROMPT, n=16, max_new_tokens=30)
    scores = np.stack(
        [mean_reward(PROMPT, every.all_tokens[:, :t], np.full(16, t)) for t in range(1, 31)], axis=1
    )
    last = align.lifetimes(scores, 2, cfg)
    result = align.speculative_rejection(KEY, toy_policy(), mean_reward, PROMPT, cfg)
    np.testing.assert_array_equal(np.flatnonzero(last == 30), result.pool_rows)
    assert last.sum() == result.tokens_generated
    for stats in result.rounds:
        assert np.sum(last > stats.start_length) == stats.active
    with pytest.raises(ValueError, match=r"shape \(16, 30\) of the search, got \(16, 29\)"):
        align.lifetimes(scores[:, 1:], 2, cfg)
