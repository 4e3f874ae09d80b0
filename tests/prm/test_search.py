import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import prm

TABLE = jax.random.uniform(jax.random.key(0), (4, 3), minval=0.05, maxval=1.0)
REWARD = jax.random.uniform(jax.random.key(1), (4, 3), minval=0.2, maxval=1.0)


def expand(key, state):
    """Three children of a path [depth, choices...]."""
    depth, path = state
    children = jax.vmap(lambda choice: path.at[depth].set(choice))(jnp.arange(3))
    return (jnp.full(3, depth + 1), children), jnp.log(TABLE[depth] * (1 + jnp.sum(path)) / 9)


def reward(child):
    depth, path = child
    return REWARD[depth - 1, path[depth - 1]]


def score(path):
    """The score of a path of choices by hand."""
    total, so_far = 0.0, 0
    for depth, choice in enumerate(path):
        total += np.log(TABLE[depth, choice] * (1 + so_far) / 9 * REWARD[depth, choice])
        so_far += choice
    return total


def start():
    return jnp.array(0), jnp.zeros(4, jnp.int32)


def test_a_wide_beam_is_exhaustive_search():
    found = jax.jit(
        lambda key: prm.beam_search(key, start(), expand, reward, beam=27, max_steps=4)
    )(jax.random.key(2))
    every = sorted(itertools.product(range(3), repeat=4), key=score, reverse=True)
    np.testing.assert_array_equal(found.states[1][0], every[0])
    assert (np.diff(found.scores) <= 0).all()
    for path, value in zip(found.states[1], found.scores, strict=True):
        assert value == pytest.approx(score(np.asarray(path)), abs=1e-4)


def test_a_beam_of_one_is_greedy():
    found = prm.beam_search(jax.random.key(2), start(), expand, reward, beam=1, max_steps=4)
    path = []
    for _ in range(4):
        path = max(([*path, c] for c in range(3)), key=score)
    np.testing.assert_array_equal(found.states[1][0], path)


def test_the_beams_of_the_first_step_differ():
    found = prm.beam_search(jax.random.key(2), start(), expand, reward, beam=3, max_steps=1)
    assert sorted(np.asarray(found.states[1][:, 0])) == [0, 1, 2]
    with pytest.raises(ValueError, match="beam and max_steps must be >= 1, got 0 and 3"):
        prm.beam_search(jax.random.key(2), start(), expand, reward, beam=0, max_steps=3)


def test_guidance():
    rng = np.random.default_rng(0)
    cond, uncond = rng.normal(size=(2, 5, 7))
    c, u = jax.nn.log_softmax(cond), jax.nn.log_softmax(uncond)
    np.testing.assert_allclose(prm.guided_logits(cond, uncond, 1.0), c, atol=1e-5)
    np.testing.assert_allclose(prm.guided_logits(cond, uncond, 0.0), u, atol=1e-5)
    beyond = prm.guided_logits(cond, uncond, 1.5)
    np.testing.assert_allclose(beyond, jax.nn.log_softmax(1.5 * c - 0.5 * u), atol=1e-5)
    np.testing.assert_allclose(jax.nn.logsumexp(beyond, axis=-1), 0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_guidance_never_gives_nan(strength):
    cond = np.array([[0.0, -np.inf, 1.0], [-np.inf] * 3])
    uncond = np.array([[-np.inf, 0.0, -np.inf], [0.0, 1.0, 2.0]])
    got = np.asarray(prm.guided_logits(cond, uncond, strength))
    assert not np.isnan(got).any()
    assert (got[~np.isfinite(cond)] == -np.inf).all()
    assert np.isfinite(got[0, [0, 2]]).all()
