"""The decoding loop with toy step functions, whose results are known by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxlab.lm.decoding import decode
from jaxlab.lm.sampling import SamplingConfig

VOCAB = 11
GREEDY = SamplingConfig(temperature=0)


def successor(tokens, count):
    """Prefers (token + 1) mod VOCAB; the carry counts calls."""
    return 5.0 * jax.nn.one_hot((tokens + 1) % VOCAB, VOCAB), count + 1


def one_hot_logits(*tokens):
    return 5.0 * jax.nn.one_hot(jnp.array(tokens), VOCAB)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_counts_up_and_stops():
    result, logits, count = decode(
        keys(3),
        successor,
        one_hot_logits(0, 5, 9),
        jnp.int32(0),
        max_new_tokens=8,
        sampling=GREEDY,
        eos_ids=(7, 10),
        pad_id=2,
    )
    expected = [[0, 1, 2, 3, 4, 5, 6, 7], [5, 6, 7, 2, 2, 2, 2, 2], [9, 10, 2, 2, 2, 2, 2, 2]]
    np.testing.assert_array_equal(result.tokens, expected)
    np.testing.assert_array_equal(result.lengths, [8, 3, 2])
    assert result.steps == 8
    assert count == 8  # once for every token, the last included
    assert int(jnp.argmax(logits[0])) == 8
    live = np.arange(8) < np.array([8, 3, 2])[:, None]
    log_prob = 5 - np.log(np.exp(5) + VOCAB - 1)
    np.testing.assert_allclose(result.logprobs, np.where(live, log_prob, 0), rtol=1e-6)
    np.testing.assert_array_equal(result.sample_logprobs, np.zeros((3, 8)))


def test_ends_when_all_rows_have():
    result, _, count = decode(
        keys(2), successor, one_hot_logits(3, 5), 0, max_new_tokens=50, sampling=GREEDY, eos_ids=6
    )
    assert result.steps == count == 4
    np.testing.assert_array_equal(result.lengths, [4, 2])
    assert result.tokens.shape == (2, 50)
    assert not np.asarray(result.tokens)[:, 4:].any()


def test_rows_that_have_ended_get_pads_and_hold_nothing_up():
    result, _, count = decode(
        keys(2),
        successor,
        one_hot_logits(0, 5),
        0,
        max_new_tokens=9,
        sampling=GREEDY,
        eos_ids=6,
        pad_id=2,
        ended=np.array([True, False]),
    )
    np.testing.assert_array_equal(result.tokens[:, :3], [[2, 2, 2], [5, 6, 2]])
    np.testing.assert_array_equal(result.lengths, [0, 2])
    np.testing.assert_array_equal(result.logprobs[0], np.zeros(9))
    assert count == 2


def test_ended_must_be_one_flag_a_row():
    with pytest.raises(ValueError, match=r"ended must be \[2\], got shape \(3,\)"):
        decode(keys(2), successor, one_hot_logits(0, 5), 0, max_new_tokens=1, ended=np.ones(3))


@pytest.mark.parametrize(
    "sampling", [SamplingConfig(), SamplingConfig(temperature=1.5, top_k=7, top_p=0.95)]
)
def test_two_calls_equal_one(sampling):
    start = jnp.zeros((4, VOCAB))
    whole, end, count = decode(
        keys(4), successor, start, jnp.int32(0), max_new_tokens=10, sampling=sampling
    )
    first, logits, carry = decode(
        keys(4), successor, start, jnp.int32(0), max_new_tokens=6, sampling=sampling
    )
    second, logits, carry = decode(
        keys(4), successor, logits, carry, max_new_tokens=4, sampling=sampling, start=6
    )
    for name in ("tokens", "logprobs", "sample_logprobs"):
        joined = jnp.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        np.testing.assert_array_equal(joined, getattr(whole, name))
    np.testing.assert_array_equal(logits, end)
    assert carry == count == 10


def test_rows_are_independent_of_their_batch():
    together, _, _ = decode(keys(5), successor, jnp.zeros((5, VOCAB)), 0, max_new_tokens=9)
    rows = jnp.array([3, 1])
    some, _, _ = decode(keys(5)[rows], successor, jnp.zeros((2, VOCAB)), 0, max_new_tokens=9)
    np.testing.assert_array_equal(some.tokens, together.tokens[rows])


def test_log_probabilities_are_those_of_the_two_distributions():
    sampling = SamplingConfig(temperature=0.5, top_k=3)
    logits = jax.random.normal(jax.random.key(4), (6, VOCAB))
    result, _, _ = decode(keys(6), successor, logits, 0, max_new_tokens=1, sampling=sampling)
    rows, drawn = np.arange(6), np.asarray(result.tokens[:, 0])
    plain = jax.nn.log_softmax(logits)[rows, drawn]
    kth = jnp.sort(logits)[:, -3, None]
    filtered = jax.nn.log_softmax(jnp.where(logits < kth, -jnp.inf, 2 * logits))[rows, drawn]
    np.testing.assert_allclose(result.logprobs[:, 0], plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.sample_logprobs[:, 0], filtered, rtol=1e-5, atol=1e-6)


def test_repetition_penalty_counts_the_calls_own_tokens_and_those_before():
    def stubborn(tokens, carry):
        return jnp.broadcast_to(jnp.arange(VOCAB, 0.0, -1.0), (tokens.shape[0], VOCAB)), carry

    logits, _ = stubborn(jnp.zeros(1, int), None)
    sampling = SamplingConfig(temperature=0, repetition_penalty=100.0)
    seen = jnp.zeros((1, VOCAB), bool).at[0, 1].set(True)
    result, _, _ = decode(
        keys(1), stubborn, logits, None, max_new_tokens=3, sampling=sampling, seen=seen
    )
    np.testing.assert_array_equal(result.tokens, [[0, 2, 3]])
    unseen, _, _ = decode(keys(1), stubborn, logits, None, max_new_tokens=3, sampling=sampling)
    np.testing.assert_array_equal(unseen.tokens, [[0, 1, 2]])


def test_one_program_per_step_function():
    step = chex.assert_max_traces(successor, n=1)
    for start in (0, 5, 9):
        decode(keys(2), step, jnp.zeros((2, VOCAB)), jnp.int32(0), max_new_tokens=5, start=start)


def test_a_partials_arrays_are_arguments():
    def shifted(shift, tokens, carry):
        return 5.0 * jax.nn.one_hot((tokens + shift) % VOCAB, VOCAB), carry

    counted = chex.assert_max_traces(shifted, n=1)
    for shift in (1, 2, 3):
        step = Partial(counted, jnp.int32(shift))
        result, _, _ = decode(
            keys(1), step, one_hot_logits(0), None, max_new_tokens=3, sampling=GREEDY
        )
        np.testing.assert_array_equal(result.tokens, [[0, shift, 2 * shift]])


def test_under_jit_and_vmap_with_a_traced_start():
    def run(start, logits):
        return decode(keys(2), successor, logits, 0, max_new_tokens=4, start=start)[0].tokens

    logits = jax.random.normal(jax.random.key(5), (3, 2, VOCAB))
    plain = [run(7, x) for x in logits]
    np.testing.assert_array_equal(jax.jit(run)(7, logits[0]), plain[0])
    np.testing.assert_array_equal(jax.vmap(run, (None, 0))(7, logits), plain)


def test_bad_input():
    logits = jnp.zeros((2, VOCAB))
    with pytest.raises(ValueError, match="max_new_tokens"):
        decode(keys(2), successor, logits, 0, max_new_tokens=0)
    with pytest.raises(ValueError, match="keys"):
        decode(keys(3), successor, logits, 0, max_new_tokens=1)
    with pytest.raises(ValueError, match="logits"):
        decode(keys(2), successor, logits[0], 0, max_new_tokens=1)
