import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from jaxlab import optim


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
    signed = y[:, None] * X
    for normalize in (True, False):
        w, steps = np.zeros(X.shape[1]), 0
        while (wrong := signed @ w <= 0).any():
            w = w + wrong @ signed / (wrong.sum() if normalize else len(y))
            steps += 1
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
