import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import prm


def gae_by_hand(rewards, values, mask, gamma, lam, ends):
    """Each row's valid tokens as a plain episode, cut at `ends`, in float64."""
    advantages = np.zeros(rewards.shape)
    for b in range(len(rewards)):
        later = None
        for t in reversed(np.flatnonzero(mask[b])):
            if ends[b, t]:
                later = None
            delta = rewards[b, t] - values[b, t]
            advantage = delta
            if later is not None:
                advantage += gamma * values[b, later] + gamma * lam * advantages[b, later]
            advantages[b, t] = advantage
            later = t
    return advantages, np.where(mask, advantages + np.where(mask, values, 0), 0)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=15)
def test_gae_over_holes(seed, gamma, lam):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, 4, 9))
    mask, ends = rng.random((2, 4, 9)) < [[[0.6]], [[0.2]]]
    want = gae_by_hand(rewards, values, mask, gamma, lam, ends)
    values = np.where(mask, values, np.nan)
    rewards = np.where(mask, rewards, np.inf)
    got = prm.gae(rewards, values, mask, gamma, lam, ends)
    for ours, reference in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)
        assert (np.asarray(ours)[~mask] == 0).all()


def test_gae_by_the_textbook():
    rewards, values = np.float32([[1, 2, 3]]), np.float32([[0.5, 0.25, 0.125]])
    ones = np.ones((1, 3), bool)
    advantages, returns = prm.gae(rewards, values, ones, gamma=1.0, lam=1.0)
    np.testing.assert_allclose(returns, [[6, 5, 3]])
    np.testing.assert_allclose(advantages, returns - values)
    td, _ = prm.gae(rewards, values, ones, gamma=0.5, lam=0.0)
    np.testing.assert_allclose(td, [[1 + 0.125 - 0.5, 2 + 0.0625 - 0.25, 3 - 0.125]])


def test_gae_leading_axes_jit_and_vmap():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 2, 3, 5)).astype(np.float32)
    mask = rng.random((2, 3, 5)) < 0.7
    want = prm.gae(rewards, values, mask)
    for run in (jax.jit(prm.gae), jax.vmap(prm.gae), jax.vmap(jax.vmap(prm.gae))):
        for a, b in zip(run(rewards, values, mask), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_gae_gradients_do_not_see_holes():
    values = jnp.array([[1.0, jnp.nan, 2.0]])
    mask = jnp.array([[True, False, True]])
    grad = jax.grad(lambda v: jnp.sum(prm.gae(jnp.ones((1, 3)), v, mask)[0]))(values)
    np.testing.assert_allclose(grad, [[-1, 0, 1 - 0.95 - 1]], atol=1e-6)


def test_group_advantages_by_their_definition():
    rewards = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    spread = rewards.std(1, ddof=1, keepdims=True)
    want = (rewards - rewards.mean(1, keepdims=True)) / (spread + 1e-4)
    np.testing.assert_allclose(prm.group_advantages(rewards), want, atol=1e-5)
    plain = prm.group_advantages(rewards, "none")
    np.testing.assert_allclose(plain, rewards - rewards.mean(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -3.7])
@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("size", [1, 7])
def test_equal_rewards_teach_exactly_nothing(value, scale, size):
    rewards = jnp.full((2, size), value, jnp.float32)
    assert (prm.group_advantages(rewards, scale) == 0).all()
    grad = jax.grad(lambda r: jnp.sum(prm.group_advantages(r, scale) ** 2 + r * 0))(rewards)
    assert (grad == 0).all()
    assert not prm.informative_groups(rewards).any()
    mask = jnp.ones((2, size, 3), bool)
    steps = jnp.full((2, size, 3), value, jnp.float32)
    assert (prm.process_advantages(steps, mask, scale) == 0).all()


def test_informative_groups():
    rewards = [[1.0, 1.0], [0.0, 1.0]]
    np.testing.assert_array_equal(prm.informative_groups(rewards), [False, True])


@given(st.integers(0, 10**6), st.sampled_from(["std", "none"]))
@settings(max_examples=15)
def test_process_advantages(seed, scale):
    rng = np.random.default_rng(seed)
    rewards = rng.integers(0, 3, size=(3, 4, 5)).astype(np.float64)
    mask = rng.random((3, 4, 5)) < 0.6
    want = np.zeros_like(rewards)
    for p in range(3):
        valid = rewards[p][mask[p]]
        if not len(valid) or np.ptp(valid) == 0:
            continue
        normal = rewards[p] - valid.mean()
        if scale == "std":
            normal /= valid.std() + 1e-4
        for g in range(4):
            for s in range(5):
                if mask[p, g, s]:
                    want[p, g, s] = sum(normal[g, z] for z in range(s, 5) if mask[p, g, z])
    rewards[~mask] = np.nan
    got = prm.process_advantages(rewards, mask, scale)
    np.testing.assert_allclose(got, want, atol=1e-4)
    compiled = jax.jit(prm.process_advantages, static_argnums=2)(rewards, mask, scale)
    np.testing.assert_allclose(compiled, got, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: prm.gae(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3))),
            r"rewards \(2, 3\), values \(2, 4\)",
        ),
        (lambda: prm.group_advantages(np.ones(3)), r"rewards must have shape \[P, G\], got \(3,\)"),
        (
            lambda: prm.group_advantages(np.ones((2, 3)), "max"),
            "scale must be one of std, none, got 'max'",
        ),
        (
            lambda: prm.process_advantages(np.ones((2, 3)), np.ones((2, 3))),
            r"\[P, G, S\], got \(2, 3\)",
        ),
        (
            lambda: prm.process_advantages(np.ones((1, 2, 3)), np.ones((1, 2, 2))),
            "shapes must be equal",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
