from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import prm


def test_best_of_n():
    scores = [[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]
    np.testing.assert_array_equal(prm.best_of_n(scores), [1, 0])
    valid = [[False, False, True], [False, False, False]]
    np.testing.assert_array_equal(prm.best_of_n(scores, valid), [2, 0])


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=20)
def test_votes(seed, weighted):
    rng = np.random.default_rng(seed)
    ids = rng.integers(-1, 4, size=(5, 7))
    weights = rng.integers(0, 3, size=(5, 7)) if weighted else np.ones((5, 7), int)
    want = []
    for row, row_weights in zip(ids, weights, strict=True):
        votes = Counter()
        for answer, weight in zip(row, row_weights, strict=True):
            if answer >= 0:
                votes[int(answer)] += weight  # insertion order breaks ties
        want.append(max(votes, key=votes.get) if votes else -1)
    got = prm.majority_vote(ids, weights if weighted else None)
    np.testing.assert_array_equal(got, want)


def test_rerank():
    logp = np.array([[-1.0, -2.0, -0.5], [-1e5, -1e5 - 1, -2e5]])
    reward = np.array([[0.9, 1.0, 0.0], [0.5, 1.0, 1.0]])
    got = prm.rerank(logp, reward, k=3, tau=0.2)
    np.testing.assert_array_equal(got.index, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_allclose(got.score[0], [0.9 * np.exp(-1), np.exp(-2), 0], rtol=1e-6)
    np.testing.assert_array_equal(got.abstain, [False, True])
    per_token = prm.rerank(logp, reward, lengths=np.array([[1, 2, 1], [10**5] * 3]))
    np.testing.assert_array_equal(per_token.index, [[1], [1]])
    assert per_token.score.shape == (2, 1)
    np.testing.assert_array_equal(jax.jit(prm.rerank)(logp, reward).index, [[0], [0]])


def test_what_to_learn_from():
    scores = np.array([[0.9, 0.5, 0.9, 0.9], [0.1, 0.2, 0.3, np.nan]])
    valid = np.array([[True, True, True, False], [True, True, True, False]])
    np.testing.assert_array_equal(prm.expert_select(scores, valid, 2), [[1, 0, 1, 0], [0, 1, 1, 0]])
    np.testing.assert_array_equal(
        prm.expert_select(scores, valid, 1, threshold=0.5), [[1, 0, 0, 0], [0, 0, 0, 0]]
    )


def test_refuses():
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"k must lie in 1\.\.3, got {k}"):
            prm.rerank(np.zeros((1, 3)), np.ones((1, 3)), k)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        prm.expert_select(np.ones((1, 3)), np.ones((1, 3)), 0)
    with pytest.raises(ValueError, match="shapes must be equal"):
        prm.majority_vote(np.ones((1, 3), int), np.ones((1, 2)))
