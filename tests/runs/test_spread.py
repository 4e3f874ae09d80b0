import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxlab.runs import spread

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


@given(values, st.floats(0.5, 0.999))
def test_interval_is_students_t(values, confidence):
    got = spread(values, confidence)
    mean, error = np.mean(values), stats.sem(values)
    want = stats.t.interval(confidence, len(values) - 1, mean, error) if error else (mean, mean)
    np.testing.assert_allclose([got.low, got.high], want, rtol=1e-9, atol=1e-7)
    assert got.n == len(values)


def test_prints_as_a_claim_shows_it():
    assert str(spread([0.9, 0.902, 0.898])) == "0.9 ± 0.005, n=3"
    assert f"{spread([0.9, 0.902, 0.898]):.3f}" == "0.900 ± 0.005, n=3"
    assert str(spread([2.0])) == "2, n=1"


@pytest.mark.parametrize(
    ("values", "kwargs", "message"),
    [
        ([], {}, "no values"),
        ([1.0, np.nan], {}, "1 non-finite"),
        ([1.0, 2.0], {"confidence": 1.0}, "confidence"),
    ],
)
def test_refuses(values, kwargs, message):
    with pytest.raises(ValueError, match=message):
        spread(values, **kwargs)
