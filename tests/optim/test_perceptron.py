import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from jaxlab import optim
from jaxlab.optim.convergence import measure_perceptrons
from jaxlab.optim.problems import Problems


def _numpy_perceptron(X, y, max_passes):
    w, updates = np.zeros(X.shape[1]), 0
    for passes in range(1, max_passes + 1):
        clean = True
        for x, label in zip(X, y, strict=True):
            if label * (x @ w) <= 0:
                w, updates, clean = w + label * x, updates + 1, False
        if clean:
            return w, updates, passes, True
    return w, updates, max_passes, False


def _numpy_batch(X, y, normalize=True):
    signed = y[:, None] * X
    w, steps = np.zeros(X.shape[1]), 0
    while (wrong := signed @ w <= 0).any():
        w = w + wrong @ signed / (wrong.sum() if normalize else len(y))
        steps += 1
    return w, steps


def test_cyclic_against_numpy(blobs):
    X, y = blobs
    with jax.enable_x64(True):
        got = optim.perceptron(X, y)
    w, updates, passes, converged = _numpy_perceptron(X, y, 1000)
    np.testing.assert_allclose(got.w, w, rtol=1e-12)
    assert (got.num_updates, got.num_passes, got.converged) == (updates, passes, converged)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), margin=st.floats(0.05, 0.5))
def test_novikoff(seed, margin):
    X, y, _ = optim.random_separable(jax.random.key(seed), 30, 6, margin)
    for result in (
        optim.perceptron(X, y),
        optim.perceptron(X, y, order="random", key=jax.random.key(seed)),
        optim.batch_perceptron(X, y),
    ):
        assert result.converged
        assert (y * (X @ result.w) > 0).all()
        assert result.num_updates <= 1.001 / margin**2


def test_random_order_takes_a_new_permutation_each_pass(blobs):
    X, y = blobs
    one = optim.perceptron(X, y, order="random", key=jax.random.key(0))
    same = optim.perceptron(X, y, order="random", key=jax.random.key(0))
    other = optim.perceptron(X, y, order="random", key=jax.random.key(3))
    np.testing.assert_array_equal(one.w, same.w)
    assert one.converged
    assert other.converged
    assert (one.w != other.w).any()


def test_batch_against_numpy(blobs):
    X, y = blobs
    for normalize in (True, False):
        w, steps = _numpy_batch(X, y, normalize)
        with jax.enable_x64(True):
            got = optim.batch_perceptron(X, y, normalize=normalize)
        np.testing.assert_allclose(got.w, w, rtol=1e-9)
        assert got.num_updates == got.num_passes == steps
        assert got.converged


def test_batch_takes_sparse_data(blobs):
    X, y = blobs
    dense = optim.batch_perceptron(X, y)
    sparse = optim.batch_perceptron(BCOO.fromdense(X.astype(np.float32)), y)
    np.testing.assert_allclose(sparse.w, dense.w, rtol=1e-4)


# A copy of the first sample visited again, or averaged over, is another problem here.
SIGNED = np.array([[0.25, 0.0], [-2.0, 1.0], [0.875, 0.0625], [1.0, 1.0], [0.5, 0.25]])


def _padded(size, length):
    inside = np.arange(length) < size
    y = np.where(np.arange(length) % 2, 1.0, -1.0)
    rows = np.where(inside, np.arange(length), 0)
    signed = np.resize(SIGNED, (length, 2))[rows]
    return y[rows, None] * signed, y[rows], inside


def test_rows_outside_the_mask_count_nowhere():
    X, y, inside = _padded(3, 12)
    with jax.enable_x64(True):
        online = optim.perceptron(X, y, mask=inside)
        w, updates, passes, _ = _numpy_perceptron(X[:3], y[:3], 1000)
        np.testing.assert_array_equal(online.w, w)
        assert (online.num_updates, online.num_passes, online.converged) == (updates, passes, True)
        for normalize in (True, False):
            batch = optim.batch_perceptron(X, y, mask=inside, normalize=normalize)
            w, steps = _numpy_batch(X[:3], y[:3], normalize)
            np.testing.assert_allclose(batch.w, w, rtol=1e-12)
            assert batch.num_updates == steps
    contradiction = np.array([[1.0], [1.0]]), np.array([1.0, -1.0])
    random = {"order": "random", "key": jax.random.key(0), "mask": [True, False]}
    assert optim.perceptron(*contradiction, **random).converged


def test_padded_sets_are_measured_as_they_are():
    sizes = np.array([3, 5, 2])
    X, y, inside = map(np.stack, zip(*(_padded(size, 12) for size in sizes), strict=True))
    X[2], y[2] = 1.0, np.where(np.arange(12) == 0, 1.0, -1.0)  # no plane separates the third
    problems = Problems(X, y, inside.astype(float), np.full(3, 0.1), sizes)
    with jax.enable_x64(True):
        measured = measure_perceptrons(problems)
    sets = [(X[i, :size], y[i, :size]) for i, size in enumerate(sizes[:2])]
    online = [_numpy_perceptron(*data, 1000)[1] for data in sets]
    np.testing.assert_array_equal(measured["online"], [*online, -1])
    np.testing.assert_array_equal(measured["batch"], [*(_numpy_batch(*d)[1] for d in sets), -1])


def test_products_are_of_the_highest_precision(blobs):
    assert "HIGHEST" in str(jax.make_jaxpr(optim.perceptron)(*blobs))


def test_inseparable_data_is_given_up():
    X, y = np.array([[1.0], [1.0]]), np.array([1.0, -1.0])
    online = optim.perceptron(X, y, max_passes=7)
    assert not online.converged
    assert online.num_passes == 7
    batch = optim.batch_perceptron(X, y, max_steps=9)
    assert not batch.converged
    assert batch.num_updates == 9


def test_vmap_over_orders_and_data(blobs):
    X, y = blobs
    keys = jax.random.split(jax.random.key(1), 4)
    swept = jax.vmap(lambda key: optim.perceptron(X, y, order="random", key=key))(keys)
    alone = [optim.perceptron(X, y, order="random", key=key).num_updates for key in keys]
    np.testing.assert_array_equal(swept.num_updates, alone)
    both = jax.jit(jax.vmap(lambda s: optim.batch_perceptron(s * X, s * y).w))(
        jnp.array([1.0, -1.0])
    )
    np.testing.assert_allclose(both[0], both[1], rtol=1e-6)


def test_bad_input():
    X, y = np.ones((4, 2)), np.ones(4)
    with pytest.raises(ValueError, match=r"order must be one of cyclic, random, got 'sorted'"):
        optim.perceptron(X, y, order="sorted")
    with pytest.raises(ValueError, match="needs a key"):
        optim.perceptron(X, y, order="random")
    with pytest.raises(ValueError, match="max_passes must be >= 1, got 0"):
        optim.perceptron(X, y, max_passes=0)
    with pytest.raises(ValueError, match="max_steps must be >= 1, got 0"):
        optim.batch_perceptron(X, y, max_steps=0)
    for run in (optim.perceptron, optim.batch_perceptron):
        with pytest.raises(ValueError, match=r"X \(4, 2\) and y \(3,\)"):
            run(X, np.ones(3))
        with pytest.raises(ValueError, match=r"mask must have one entry per sample, \(4,\), got"):
            run(X, y, mask=np.ones(3, bool))
