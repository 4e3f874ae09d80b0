import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import twohop


def check_consistent(batch, task):
    """Every field tells the same story as the tokens."""
    tokens, rows = np.asarray(batch.tokens), np.arange(batch.tokens.shape[0])
    chains, positions = np.asarray(batch.chains), np.asarray(batch.positions)
    for column, entity in enumerate((0, 1, 1, 2)):
        at = tokens[rows[:, None], positions[..., column]]
        np.testing.assert_array_equal(at, chains[..., entity])
    np.testing.assert_array_equal(tokens[:, 0], 0)
    target = np.asarray(batch.target)
    np.testing.assert_array_equal(tokens[:, -1], chains[rows, target, 0])
    np.testing.assert_array_equal(batch.answer, chains[rows, target, 2])
    np.testing.assert_array_equal(positions[..., 0] % 2, 1)
    np.testing.assert_array_equal(positions[..., 1], positions[..., 0] + 1)
    np.testing.assert_array_equal(positions[..., 3], positions[..., 2] + 1)
    entities = np.concatenate(
        [chains.reshape(len(rows), -1), np.reshape(batch.onehops, (len(rows), -1))], axis=1
    )
    assert all(len(set(row)) == task.n_entities for row in entities)
    assert entities.min() >= task.n_special
    assert tokens.max() < task.n_tokens


@settings(max_examples=5)  # every size compiles anew
@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 4), st.integers(0, 99))
def test_batches_are_consistent(n_chains, n_onehop, spare, seed):
    task = twohop.TaskConfig(n_chains, n_onehop, 3 * n_chains + 2 * n_onehop + spare)
    batch = twohop.sample_batch(jax.random.key(seed), task, 16)
    assert batch.tokens.shape == (16, task.seq_len)
    check_consistent(batch, task)
    assert (batch.positions[..., 2] > batch.positions[..., 1]).all()
    ends = np.tile([0, task.seq_len - 1], (16, 1))
    places = np.concatenate([np.reshape(batch.positions, (16, -1)), ends], axis=1)
    assert all(len(set(row)) == len(row) for row in places)


def test_premise_order_is_that_of_the_sequential_generator():
    """All patterns of two chains, against emitting premises in proportion to those left."""

    def probability(pattern):
        left, p = [2, 2], 1.0
        for chain in pattern:
            p *= left[chain] / sum(left)
            left[chain] -= 1
        return p

    patterns = set(itertools.permutations((0, 0, 1, 1)))
    task = twohop.TaskConfig(n_chains=2, vocab_size=6)
    batch = twohop.sample_batch(jax.random.key(0), task, 20_000)
    order = np.argsort(np.asarray(batch.positions)[..., ::2].reshape(-1, 4), axis=1) // 2
    counts = Counter(map(tuple, order))
    for pattern in patterns:
        assert abs(counts[pattern] / 20_000 - probability(pattern)) < 0.012
    np.testing.assert_allclose(np.bincount(batch.target) / 20_000, 0.5, atol=0.02)


@pytest.mark.parametrize("kind", ["query", "bridge", "end"])
def test_counterfactuals_change_one_hop_and_stay_consistent(kind):
    task = twohop.TaskConfig(n_chains=4)
    batch = twohop.sample_batch(jax.random.key(1), task, 64)
    other = (batch.target + 1 + jnp.arange(64) % 3) % 4
    changed = twohop.counterfactual(batch, kind, other)
    check_consistent(changed, task)
    difference = (changed.tokens != batch.tokens).sum(1)
    np.testing.assert_array_equal(difference, 1 if kind == "query" else 2)
    rows = np.arange(64)
    np.testing.assert_array_equal(changed.answer, batch.chains[rows, other, 2])
    if kind == "query":
        np.testing.assert_array_equal(changed.target, other)
    else:
        np.testing.assert_array_equal(changed.target, batch.target)
    again = twohop.counterfactual(changed, kind, batch.target if kind == "query" else other)
    for got, want in zip(again, batch, strict=True):
        np.testing.assert_array_equal(got, want)


def test_batches_on_the_host_are_batches():
    batch = twohop.sample_batch(jax.random.key(1), twohop.TaskConfig(n_chains=4), 8)
    other = np.asarray((batch.target + 1) % 4)
    got = twohop.counterfactual(jax.device_get(batch), "bridge", other)
    for a, b in zip(got, twohop.counterfactual(batch, "bridge", other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_roles_jit_and_vmap():
    task = twohop.TaskConfig(n_chains=3, n_onehop=2)
    keys = jax.random.split(jax.random.key(2), 3)
    sample = jax.jit(jax.vmap(lambda key: twohop.sample_batch(key, task, 8)))
    want = twohop.sample_batch(keys[1], task, 8)
    np.testing.assert_array_equal(sample(keys).tokens[1], want.tokens)
    roles = twohop.role_positions(want)
    rows = np.arange(8)
    np.testing.assert_array_equal(roles[:, :4], want.positions[rows, want.target])
    np.testing.assert_array_equal(roles[:, 4], task.seq_len - 1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_chains": 0}, "n_chains must be >= 1, got 0"),
        ({"n_onehop": -1}, "n_onehop must be >= 0"),
        ({"n_special": 0}, "n_special must be >= 1"),
        ({"vocab_size": 14}, "vocab_size 14 .* 5 chains and 0 one-hops use 15"),
    ],
)
def test_config_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        twohop.TaskConfig(**kwargs)


def test_sampling_and_counterfactual_refuse():
    task = twohop.TaskConfig()
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        twohop.sample_batch(jax.random.key(0), task, 0)
    batch = twohop.sample_batch(jax.random.key(0), task, 2)
    with pytest.raises(ValueError, match="one of query, bridge, end, got 'start'"):
        twohop.counterfactual(batch, "start", batch.target)
