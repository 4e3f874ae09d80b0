import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxlab import unlearn

LABELS = np.array([[-100, 1, 2, 3], [1, 2, -100, 4], [-100] * 4])
PRED = np.array([[9, 1, 0, 3], [0, 2, 9, 4], [0] * 4])


def test_by_hand():
    np.testing.assert_allclose(unlearn.exact_memorization(PRED, LABELS), [2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(unlearn.extraction_strength(PRED, LABELS), [1 / 3, 2 / 3, 0])


@hypothesis.given(st.lists(st.sampled_from([(0, 0), (0, 1), (-100, 3)]), min_size=1))
def test_extraction_strength_by_its_definition(row):
    labels, pred = (np.array([[pair[i] for pair in row]]) for i in (0, 1))
    right = [p == label for label, p in row if label != -100]
    n = len(right)
    expected = 0.0 if n == 0 else 1 - next(k for k in range(n + 1) if all(right[k:])) / n
    np.testing.assert_allclose(unlearn.extraction_strength(pred, labels), [expected])


def test_repetition():
    assert unlearn.repetition_rate([1, 2, 3, 4, 5]) == 0
    assert unlearn.repetition_rate([1, 2], n=4) == 0
    np.testing.assert_allclose(unlearn.repetition_rate([7] * 11, n=2), 0.9)
    np.testing.assert_allclose(unlearn.repetition_rate(np.array([1, 2, 1, 2]), n=2), 1 / 3)
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        unlearn.repetition_rate([1], n=0)


def test_refuse_shapes():
    for function in (unlearn.exact_memorization, unlearn.extraction_strength):
        with pytest.raises(ValueError, match=r"pred \(3, 4\), labels \(2, 4\)"):
            function(PRED, LABELS[:2])
