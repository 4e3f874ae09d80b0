import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from jaxlab import optim


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 60), d=st.integers(2, 20), gap=st.floats(0.01, 0.9)
)
def test_certificate_closes_on_separable_data(seed, n, d, gap):
    rng = np.random.default_rng(seed)
    w_star = np.eye(d)[0]
    signed = rng.normal(size=(n, d))
    signed[:, 0] = gap + np.abs(signed[:, 0])
    signed /= np.linalg.norm(signed, axis=1, keepdims=True)
    y = rng.choice([-1.0, 1.0], n)
    result = optim.max_margin(y[:, None] * signed, y)
    assert result.separable is True
    assert result.upper - result.margin <= 1e-9
    assert result.margin >= (signed @ w_star).min() - 1e-9
    assert np.linalg.norm(result.w) == pytest.approx(1)
    assert result.margin == pytest.approx((signed @ result.w).min(), abs=1e-12)
    assert result.dual.min() >= 0
    assert result.dual.sum() == pytest.approx(1)
    assert result.upper == pytest.approx(np.linalg.norm(result.dual @ signed), abs=1e-12)


def test_against_the_hard_margin_svm(blobs):
    svm = pytest.importorskip("sklearn.svm")
    X, y = blobs
    w = svm.SVC(kernel="linear", C=1e10, tol=1e-8).fit(
        np.r_[X, -X],
        np.r_[y, -y],  # its intercept vanishes by symmetry
    )
    assert optim.max_margin(X, y).margin == pytest.approx(1 / np.linalg.norm(w.coef_), rel=1e-5)


def test_tiny_margins():
    for angle in (1e-3, 1e-5, 1e-7):
        X = np.array([[1.0, angle], [-1.0, angle], [0.0, 1.0]])
        result = optim.max_margin(X, np.ones(3))
        assert result.separable
        assert result.margin == pytest.approx(angle, rel=1e-4)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.array([[1.0, 0], [-1, 0]]), np.array([1.0, 1])),
        (np.array([[1.0, 2], [1, 2]]), np.array([1.0, -1])),
        (np.zeros((2, 2)), np.array([1.0, -1])),
    ],
)
def test_inseparable(X, y):
    result = optim.max_margin(X, y)
    assert not result.separable
    assert result.margin == 0.0
    assert result.upper == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(result.w, 0)


def test_inseparable_cloud(rng):
    X = rng.normal(size=(200, 4))
    result = optim.max_margin(X, np.sign(rng.normal(size=200)))
    assert not result.separable
    assert result.upper < 1e-9


def test_scale_of_the_data_and_sparse_form(blobs):
    X, y = blobs
    result = optim.max_margin(X, y)
    assert optim.max_margin(1e3 * X, y).margin == pytest.approx(1e3 * result.margin)
    sparse = optim.max_margin(BCOO.fromdense(X.astype(np.float32)), y)
    assert sparse.margin == pytest.approx(result.margin, rel=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match=r"X \(3, 2\) and y \(2,\)"):
        optim.max_margin(np.ones((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match="nan"):
        optim.max_margin(np.full((3, 2), np.nan), np.ones(3))
