import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import prm

TOKENS = np.array([[5, 9, 3, 9, 9], [1, 2, 3, 4, 5], [9, 9, 9, 9, 9]])


def test_ends_of_steps():
    got = prm.step_ends_from_tokens(TOKENS, 9, 3)
    np.testing.assert_array_equal(got, [[1, 3, 4], [-1, -1, -1], [0, 1, 2]])
    assert got.dtype == jnp.int32
    short = prm.step_ends_from_tokens(TOKENS, 9, 3, lengths=[4, 5, 1])
    np.testing.assert_array_equal(short, [[1, 3, -1], [-1, -1, -1], [0, -1, -1]])
    jitted = jax.jit(prm.step_ends_from_tokens, static_argnums=(1, 2))(TOKENS, 9, 3)
    np.testing.assert_array_equal(jitted, got)


def test_values_there_and_back():
    values = np.arange(15.0).reshape(3, 5)
    ends = prm.step_ends_from_tokens(TOKENS, 9, 3)
    at_ends = prm.gather_steps(values, ends)
    np.testing.assert_array_equal(at_ends, [[1, 3, 4], [0, 0, 0], [10, 11, 12]])
    ids = np.array([[0, 0, 1, 1, 2], [-1] * 5, [0, 1, 2, -1, -1]])
    spread = prm.broadcast_steps(at_ends, ids)
    np.testing.assert_array_equal(spread, [[1, 1, 3, 3, 4], [0] * 5, [10, 11, 12, 0, 0]])


def test_shaped_rewards():
    mask = np.array([[True, True, False, True], [True, False, False, False]])
    logp = np.where(mask, -1.0, np.nan)
    ref = np.where(mask, -1.5, np.nan)
    rewards = np.array([[1.0, 2.0], [3.0, np.nan]])
    ends = np.array([[1, 3], [0, -1]])
    plain = prm.shape_rewards(rewards, ends, mask)
    np.testing.assert_allclose(plain, [[0, 1, 0, 2], [3, 0, 0, 0]])
    priced = prm.shape_rewards(rewards, ends, mask, logp, ref, 0.1)
    np.testing.assert_allclose(priced, plain - 0.05 * mask, atol=1e-6)
    traced = jax.jit(lambda price: prm.shape_rewards(rewards, ends, mask, logp, ref, price))
    np.testing.assert_allclose(traced(0.1), priced, atol=1e-6)


def test_refuses():
    with pytest.raises(ValueError, match=r"kl_coef 0\.1 needs logp and ref_logp"):
        prm.shape_rewards(np.ones((1, 1)), np.zeros((1, 1), int), np.ones((1, 2)), kl_coef=0.1)
    with pytest.raises(ValueError, match=r"step_rewards \(1, 1\), step_ends \(1, 2\)"):
        prm.shape_rewards(np.ones((1, 1)), np.zeros((1, 2), int), np.ones((1, 2)))
