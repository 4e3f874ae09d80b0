import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxlab import unlearn
from jaxlab.unlearn.muse import RETRAINED_AUC

SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.5, 3.0]), min_size=1, max_size=8)


def test_min_k_by_hand():
    logp = np.array([[-1.0, -5.0, -3.0, -2.0, -4.0], [-1.0, -9.0, 0.0, 0.0, 0.0]])
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    np.testing.assert_allclose(unlearn.min_k_score(logp, mask), [4.5, 1.0])
    np.testing.assert_allclose(unlearn.min_k_score(logp, mask, k=1.0), [3.0, 1.0])


def test_min_kpp_standardises():
    logp, mask = np.array([[-1.0, -5.0, -3.0]]), np.ones((1, 3), bool)
    mean, var = np.array([[-2.0, -2.0, -2.0]]), np.array([[1.0, 4.0, 0.0]])
    assert unlearn.min_kpp_score(logp, mean, var, mask, k=1.0)[0] > 1e5  # no spread at all
    got = unlearn.min_kpp_score(logp[:, :2], mean[:, :2], var[:, :2], mask[:, :2], k=0.5)
    np.testing.assert_allclose(got, [1.5])


@hypothesis.given(SCORES, SCORES)
def test_auc_counts_pairs(forget, holdout):
    pairs = [(h < f) + 0.5 * (h == f) for f in forget for h in holdout]
    np.testing.assert_allclose(unlearn.privleak_auc(forget, holdout), np.mean(pairs))


def test_auc_is_zero_where_the_forget_set_is_memorised():
    assert unlearn.privleak_auc([0.1, 0.2], [3.0, 4.0]) == 0
    assert unlearn.privleak_auc([9.0, 8.0], [3.0, 4.0]) == 1


def test_privleak_spans_the_published_range():
    news = RETRAINED_AUC["news"]
    assert unlearn.privleak(0.0, news) == -100
    np.testing.assert_allclose(unlearn.privleak(1.0, news), 109.56, atol=5e-3)
    assert unlearn.privleak(news, news) == 0


def test_other_attacks():
    np.testing.assert_allclose(
        unlearn.zlib_score([10.0], ["aaaa"]), [10 / len(zlib.compress(b"aaaa"))]
    )
    np.testing.assert_array_equal(unlearn.reference_score([3.0], [5.0]), [-2.0])


def test_refuse():
    ones = np.ones((1, 2))
    for k in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match=r"k must lie in \(0, 1\]"):
            unlearn.min_k_score(ones, ones, k=k)
    with pytest.raises(ValueError, match="row 0 has no scored token"):
        unlearn.min_k_score(ones, 0 * ones)
    with pytest.raises(ValueError, match=r"token_logp \(1, 2\), mask \(2,\)"):
        unlearn.min_k_score(ones, np.ones(2))
    for auc in (0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="auc_retrained must be > 0"):
            unlearn.privleak(0.5, auc)
    for bad in ([], [np.nan]):
        with pytest.raises(ValueError, match="forget_score must hold numbers"):
            unlearn.privleak_auc(bad, [1.0])
        with pytest.raises(ValueError, match="holdout_score must hold numbers"):
            unlearn.privleak_auc([1.0], bad)
