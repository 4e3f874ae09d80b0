import jax
import numpy as np
import pytest

from jaxlab import align
from tests.align.toy import mean_reward, sum_reward, toy_policy

KEY = jax.random.key(5)
PROMPT = np.array([2, 2], np.int32)
SIZES = {"n_roots": 8, "n_keep": 2, "n_children": 4, "segment": 5, "max_new_tokens": 18}


def search(log=None, reward=sum_reward, **changes):
    return align.tree_best_of_n(KEY, toy_policy(log), reward, PROMPT, **(SIZES | changes))


def test_branches_share_their_past_and_differ_after():
    log = []
    result = search(log)
    assert log == [
        ("start", 8, 7),
        ("extend", 8, 5),
        ("gather", 8, 12),
        ("extend", 8, 5),
        ("gather", 8, 17),
        ("extend", 8, 5),
        ("gather", 8, 20),
        ("extend", 8, 3),
    ]
    assert result.all_tokens.shape == (8, 18)
    assert len({row.tobytes() for row in result.all_tokens[:, :15]}) == 2
    assert len({row.tobytes() for row in result.all_tokens}) == 8
    assert result.tokens_generated == result.tokens_computed == 8 * 18
    assert result.reward_tokens == 8 * (4 * 2 + 5 + 10 + 15 + 18)
    assert result.score == max(result.all_scores)


def test_finds_more_than_plain_sampling_at_the_same_cost():
    gains = []
    for seed in range(10):
        key = jax.random.key(seed)
        tree = align.tree_best_of_n(key, toy_policy(), sum_reward, PROMPT, **SIZES)
        plain = align.best_of_n(key, toy_policy(), sum_reward, PROMPT, n=8, max_new_tokens=18)
        assert tree.tokens_computed == plain.tokens_computed
        gains.append(tree.score - plain.score)
    assert np.mean(gains) > 0


def test_ended_survivors_become_leaves():
    result = search(reward=mean_reward, eos_ids=(0, 1, 2), pad_id=-1)
    assert result.all_lengths.min() < 18
    for row, length in zip(result.all_tokens, result.all_lengths, strict=True):
        assert (row[length:] == -1).all()
        assert row[length - 1] in (0, 1, 2) or length == 18
    assert result.score == max(result.all_scores)
    assert result.tokens_generated <= result.tokens_computed


@pytest.mark.parametrize("name", SIZES)
def test_refuses(name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        search(**{name: 0})


def test_refuses_to_keep_more_than_there_are():
    with pytest.raises(ValueError, match="n_keep 9 exceeds n_roots 8"):
        search(n_keep=9)
