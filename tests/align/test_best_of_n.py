import jax
import numpy as np
import pytest

from jaxlab import align
from tests.align.toy import sum_reward, toy_policy, toy_tokens

KEY = jax.random.key(1)
PROMPT = np.array([4], np.int32)


def draw(n, **changes):
    options = {"max_new_tokens": 90, "eos_ids": (0, 1)} | changes
    return align.best_of_n(KEY, toy_policy(), sum_reward, PROMPT, n=n, **options)


def test_takes_the_best_of_independent_rows():
    result = draw(9, eos_ids=())
    tokens = toy_tokens(align.row_keys(KEY, 9), np.arange(90))
    np.testing.assert_array_equal(result.all_tokens, tokens)
    scores = sum_reward(PROMPT, tokens, np.full(9, 90))
    np.testing.assert_allclose(result.all_scores, scores)
    assert result.row == np.argmax(scores)
    assert result.score == scores.max()
    np.testing.assert_array_equal(result.tokens, tokens[result.row])
    assert result.tokens_computed == result.tokens_generated == 9 * 90
    assert result.reward_tokens == 9 * 91


def test_cuts_at_the_stop_token():
    result = draw(9, pad_id=-3)
    for row, length in zip(result.all_tokens, result.all_lengths, strict=True):
        assert row[length - 1] in (0, 1) or length == 90
        assert not np.isin(row[: length - 1], (0, 1)).any()
        assert (row[length:] == -3).all()
    assert result.tokens_generated == result.all_lengths.sum()
    assert result.reward_tokens == 9 + result.tokens_generated


@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_batches_and_smaller_n_draw_the_same_rows(batch_size):
    whole = draw(9)
    split = draw(9, batch_size=batch_size)
    np.testing.assert_array_equal(whole.all_tokens, split.all_tokens)
    np.testing.assert_array_equal(whole.all_scores, split.all_scores)
    assert whole.row == split.row
    fewer = draw(5, batch_size=batch_size)
    np.testing.assert_array_equal(whole.all_tokens[:5], fewer.all_tokens)


def test_the_cache_doubles_and_a_batch_ends_with_its_rows():
    log = []
    align.best_of_n(KEY, toy_policy(log), sum_reward, PROMPT, n=3, max_new_tokens=300)
    slots = [size for what, _, size in log if what != "extend"]
    assert slots == [64, 128, 256, 301]
    assert sum(size for what, _, size in log if what == "extend") == 300
    log.clear()
    result = align.best_of_n(
        KEY, toy_policy(log), sum_reward, PROMPT, n=3, max_new_tokens=300, eos_ids=range(6)
    )
    assert result.tokens_computed == 3 * 63


def test_equal_scores_take_the_smaller_row():
    result = align.best_of_n(
        KEY, toy_policy(), lambda p, t, n: np.ones(len(t)), PROMPT, n=4, max_new_tokens=3
    )
    assert result.row == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n must be >= 1, got 0"),
        ({"n": -2}, "n must be >= 1"),
        ({"n": 2, "max_new_tokens": 0}, "max_new_tokens must be >= 1"),
        ({"n": 2, "batch_size": 0}, "batch_size must be >= 1"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        draw(**changes)


def test_refuses_prompts_and_rewards():
    with pytest.raises(ValueError, match="prompt must be"):
        align.best_of_n(KEY, toy_policy(), sum_reward, [], n=2, max_new_tokens=3)
    with pytest.raises(ValueError, match=r"NaN for rows \[2\]"):
        align.best_of_n(
            KEY,
            toy_policy(),
            lambda p, t, n: np.full(len(t), np.nan if len(t) == 1 else 0.0),
            PROMPT,
            n=3,
            batch_size=2,
            max_new_tokens=3,
        )
