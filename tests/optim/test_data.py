import jax
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from jaxlab import optim


def test_random_separable():
    X, y, w_star = optim.random_separable(jax.random.key(0), 500, 7, 0.2)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-5)
    assert float((w_star**2).sum()) == pytest.approx(1, rel=1e-5)
    margins = y * (X @ w_star)
    assert margins.min() >= 0.2 - 1e-6
    assert margins.max() > 0.5
    assert set(np.unique(y)) == {-1, 1}
    assert 0.4 < float((y > 0).mean()) < 0.6
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.jit(jax.vmap(lambda key, m: optim.random_separable(key, 9, 3, m)))
    assert many(keys, np.array([0.1, 0.3]))[0].shape == (2, 9, 3)


def test_random_separable_in_float64():
    with jax.enable_x64(True):
        X, _, _ = optim.random_separable(jax.random.key(0), 5, 3, 0.2)
        assert X.dtype == np.float64


@pytest.mark.parametrize("arguments", [(5, 1, 0.1), (0, 3, 0.1), (5, 3, 0.0), (5, 3, 1.0)])
def test_random_separable_bad_input(arguments):
    with pytest.raises(ValueError, match="must"):
        optim.random_separable(jax.random.key(0), *arguments)


def test_prepare_max():
    data = optim.prepare([[3, 4], [0, 1]], ["ham", "spam"])
    np.testing.assert_array_equal(data.y, [-1, 1])
    assert data.scale == pytest.approx(np.sqrt(26))
    np.testing.assert_allclose(data.X * data.scale, [[3, 4, 1], [0, 1, 1]])
    assert data.X.dtype == np.float64
    assert np.linalg.norm(data.X, axis=1).max() == pytest.approx(1)


def test_prepare_rows_and_none():
    X, y = [[3.0, 4.0], [0.0, 2.0]], [0, 1]
    rows = optim.prepare(X, y, add_bias=False, normalize="row")
    np.testing.assert_allclose(rows.X, [[0.6, 0.8], [0, 1]])
    np.testing.assert_allclose(rows.scale, [5, 2])
    none = optim.prepare(X, y, add_bias=False, normalize="none")
    np.testing.assert_array_equal(none.X, X)
    assert none.scale == 1.0


def test_prepare_standardizes_first(rng):
    X = np.c_[rng.normal(3, 5, size=(20, 2)), np.full(20, 0.1)]
    data = optim.prepare(X, np.arange(20) > 9, standardize=True)
    whole = data.X * data.scale
    np.testing.assert_allclose(whole[:, :2].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(whole[:, :2].std(axis=0), 1)
    np.testing.assert_array_equal(whole[:, 2], 0)
    np.testing.assert_allclose(whole[:, 3], 1)


@pytest.mark.parametrize("normalize", ["max", "row", "none"])
@pytest.mark.parametrize("add_bias", [True, False])
def test_prepare_sparse(normalize, add_bias, rng):
    X = rng.normal(size=(8, 5)) * (rng.random((8, 5)) < 0.5)
    X[:, 0] = 1
    with jax.enable_x64(True):
        sparse = optim.prepare(
            BCOO.fromdense(X), np.arange(8) % 2, add_bias=add_bias, normalize=normalize
        )
        dense = optim.prepare(X, np.arange(8) % 2, add_bias=add_bias, normalize=normalize)
        np.testing.assert_allclose(sparse.X.todense(), dense.X, rtol=1e-12)
        np.testing.assert_allclose(sparse.scale, dense.scale)
        optim.run_gd(sparse.X, sparse.y, 1.0, 2)


@pytest.mark.parametrize("normalize", ["max", "row", "none"])
def test_prepare_sparse_integers_with_several_entries_at_one_place(normalize):
    dense = np.array([[5.0, 0, 1], [0, 4, 0], [-2, 0, 0]])
    places = np.array([[0, 0], [1, 1], [0, 0], [0, 2], [2, 0]])
    with jax.enable_x64(True):
        sparse = BCOO((np.array([2, 4, 3, 1, -2]), places), shape=(3, 3))
        got = optim.prepare(sparse, [0, 1, 1], add_bias=False, normalize=normalize)
        want = optim.prepare(dense, [0, 1, 1], add_bias=False, normalize=normalize)
        np.testing.assert_allclose(got.X.todense(), want.X, rtol=1e-12)
        np.testing.assert_allclose(got.scale, want.scale, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [1, 1, 1]}, r"two classes, got 1 \(1\)"),
        ({"y": [1, 2, 3]}, r"two classes, got 3 \(1, 2, 3\)"),
        ({"X": [[1.0, 2], [np.nan, 1], [0, 1]]}, "nan or infinity, first in row 1"),
        ({"X": [[1.0, 2], [1, 1], [0, np.inf]]}, "nan or infinity, first in row 2"),
        ({"X": np.zeros((3, 2))}, "all zero"),
        ({"X": [[1.0, 0], [0, 0], [0, 1]], "normalize": "row", "add_bias": False}, "row 1 of X"),
        ({"normalize": "l1"}, "normalize must be one of max, row, none, got 'l1'"),
        ({"y": [1, 2]}, r"X \(3, 2\) and y \(2,\)"),
        ({"X": [1.0, 2.0, 3.0]}, r"X \(3,\)"),
        ({"X": BCOO.fromdense(np.eye(3)), "standardize": True}, "sparse"),
        (
            {"X": [[2.0, 1], [2, 1], [2, 1]], "standardize": True, "add_bias": False},
            "every feature of X is constant",
        ),
        ({"X": BCOO((np.array([1.0, -1]), np.zeros((2, 2), int)), shape=(3, 2))}, "all zero"),
    ],
)
def test_prepare_bad_input(change, message):
    arguments = {"X": [[1.0, 0], [0, 1], [1, 1]], "y": [0, 1, 1]} | change
    with pytest.raises(ValueError, match=message):
        optim.prepare(**arguments)


def test_npz(tmp_path, rng):
    path = tmp_path / "data.npz"
    X, y = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0])
    np.savez(path, X=X, y=y, features=2 * X, wrong=np.ones(3))
    np.testing.assert_array_equal(optim.load_npz(path)[0], X)
    np.testing.assert_array_equal(optim.load_npz(path, x_key="features")[0], 2 * X)
    with pytest.raises(
        ValueError, match=r"data.npz has no array images; it holds X, .*Name yours with x_key"
    ):
        optim.load_npz(path, x_key="images")
    with pytest.raises(ValueError, match=r"data.npz has no array labels"):
        optim.load_npz(path, y_key="labels")
    with pytest.raises(ValueError, match=r"data.npz: X must be .*\(3,\)"):
        optim.load_npz(path, y_key="wrong")


def _write(tmp_path, text):
    path = tmp_path / "data.svm"
    path.write_text(text)
    return path


def test_labels_that_are_nan_are_no_class():
    with pytest.raises(ValueError, match="y holds NaN in 1 of 3 rows"):
        optim.prepare(np.eye(3), np.array([1.0, np.nan, 1.0]))


def test_libsvm(tmp_path):
    path = _write(tmp_path, "# a comment\n+1 1:0.5 3:2\n\n-1 2:-1.5e0 # another\n+1\n")
    X, y = optim.load_libsvm(path)
    np.testing.assert_array_equal(X, [[0.5, 0, 2], [0, -1.5, 0], [0, 0, 0]])
    np.testing.assert_array_equal(y, [1, -1, 1])
    assert optim.load_libsvm(path, num_features=5)[0].shape == (3, 5)
    wide, _ = optim.load_libsvm(path, num_features=100)
    assert isinstance(wide, BCOO)
    np.testing.assert_array_equal(wide.todense()[:, :3], X)


def test_libsvm_against_sklearn(tmp_path, rng):
    datasets = pytest.importorskip("sklearn.datasets")
    X = rng.normal(size=(30, 8)) * (rng.random((30, 8)) < 0.4)
    y = rng.integers(0, 2, 30)
    path = tmp_path / "dumped.svm"
    datasets.dump_svmlight_file(X, y, str(path), zero_based=False)
    ours, labels = optim.load_libsvm(path, num_features=8)
    theirs, their_labels = datasets.load_svmlight_file(str(path), n_features=8, zero_based=False)
    np.testing.assert_array_equal(ours, theirs.toarray())
    np.testing.assert_array_equal(labels, their_labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1:2\n1 x:3\n", "line 2: expected"),
        ("1 1:2\n\n1 1-3\n", "line 3: expected"),
        ("cat 1:2\n", "line 1: expected"),
        ("1 1:2 2:\n", "line 1: expected"),
        ("1 0:2\n", "line 1: index 0 is below 1"),
        ("1 1:1\n1 9:2\n", "line 2: index 9 is above num_features=4"),
        ("1 2:1 2:3\n", "line 1: an index is repeated"),
        ("# nothing\n", "no samples"),
    ],
)
def test_libsvm_bad_input(text, message, tmp_path):
    with pytest.raises(ValueError, match=rf"data.svm.*{message}"):
        optim.load_libsvm(_write(tmp_path, text), num_features=4)
