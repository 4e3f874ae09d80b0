"""The two learners that TRUST is compared with: cloning and conservative Q-learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab.bandits.cloning import clone_behavior
from jaxlab.bandits.cql import Transitions, cql_loss, train_cql
from jaxlab.bandits.networks import MLP


def test_cql_loss_by_hand():
    q_values, target, alpha = np.array([1.0, 2.0, 0.5]), 3.0, 0.7
    want = 0.5 * (2.0 - 3.0) ** 2 + 0.7 * (np.log(np.exp(q_values).sum()) - 2.0)
    for loss in (cql_loss, jax.jit(cql_loss)):
        got = loss(jnp.asarray(q_values), jnp.array(1), target, alpha)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def chain(num_rows=2000):
    """Two states; action 1 in the first leads to the second, which pays 1 and ends."""
    rng = np.random.default_rng(0)
    state, action = rng.integers(0, 2, (2, num_rows))
    moves = (state == 0) & (action == 1)
    return Transitions(
        jnp.eye(2)[state],
        jnp.asarray(action),
        jnp.asarray(state == 1, jnp.float32),
        jnp.eye(2)[np.where(moves, 1, state)],
        jnp.asarray(np.where(state == 1, 0.0, 0.9), jnp.float32),
    )


def test_cql_without_penalty_finds_the_values_of_a_chain():
    params = train_cql(
        jax.random.key(0),
        chain(),
        num_actions=2,
        alpha=0.0,
        num_steps=1500,
        batch_size=64,
        learning_rate=3e-3,
        polyak=0.05,
    )
    q_values = MLP(2).apply(params, jnp.eye(2))
    np.testing.assert_allclose(q_values, [[0.81, 0.9], [1.0, 1.0]], atol=0.05)


def test_the_penalty_lowers_actions_that_were_not_logged_and_padding_is_ignored():
    log = chain()
    logged = np.flatnonzero(log.action == 0)
    padded = jax.tree.map(lambda x: jnp.concatenate([x[logged], 99 * jnp.ones_like(x[:500])]), log)
    params = train_cql(
        jax.random.key(0),
        padded,
        num_actions=2,
        alpha=1.0,
        num_rows=len(logged),
        num_steps=300,
        learning_rate=3e-3,
    )
    q_values = MLP(2).apply(params, jnp.eye(2))
    assert np.isfinite(q_values).all()
    assert (q_values[:, 1] < q_values[:, 0] - 1).all()


def test_cloning_imitates_and_ignores_padding():
    key, steps = jax.random.key(1), {"num_steps": 400, "learning_rate": 3e-3}
    seen = jax.random.normal(key, (300, 2))
    choice = (seen.sum(-1) > 0).astype(jnp.int32).at[200:].set(0)
    params = clone_behavior(
        key,
        seen,
        choice,
        loss=optax.softmax_cross_entropy_with_integer_labels,
        num_outputs=2,
        num_rows=200,
        **steps,
    )
    guess = MLP(2).apply(params, seen).argmax(-1)
    assert (guess == (seen.sum(-1) > 0)).mean() > 0.95
    level = seen[:, 0]
    params = clone_behavior(
        key, seen, level, loss=lambda out, y: (out[..., 0] - y) ** 2, num_outputs=1, **steps
    )
    assert np.square(MLP(1).apply(params, seen)[:, 0] - level).mean() < 0.02


def test_refuses():
    with pytest.raises(ValueError, match=r"actions \[n\], got \(3, 2\) and \(2,\)"):
        clone_behavior(
            jax.random.key(0), jnp.ones((3, 2)), jnp.ones(2), loss=jnp.add, num_outputs=1
        )
