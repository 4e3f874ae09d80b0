import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import align


def test_majority_and_weighted_votes():
    assert align.weighted_vote(["4", "5", "5"]) == ("5", {"4": 1.0, "5": 2.0})
    assert align.weighted_vote(["4", "5", "5"], [3, 1, 1])[0] == "4"
    assert align.weighted_vote(["b", "a"])[0] == "b"
    assert align.weighted_vote([2, 2], np.array([0.5, 0.25])) == (2, {2: 0.75})
    for answers, weights in (([], None), (["a"], [1, 2])):
        with pytest.raises(ValueError, match="need at least one answer"):
            align.weighted_vote(answers, weights)


def test_soft_best_of_n_draws_from_the_softmax():
    scores = jnp.array([0.0, 1.0, 3.0])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: align.soft_best_of_n(key, scores, 2.0))(keys)
    frequency = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(frequency, jax.nn.softmax(scores / 2), atol=0.03)
    assert align.soft_best_of_n(keys[0], scores, 1e-3) == 2
    assert jax.jit(align.soft_best_of_n)(keys[0], scores, 1e-3) == 2
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        align.soft_best_of_n(keys[0], scores, 0)
