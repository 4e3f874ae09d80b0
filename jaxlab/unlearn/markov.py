"""A mixture of three Markov chains: what to keep, and two things to forget.

Axes: S states, L or T positions, B sequences.

Source: Fan et al., arXiv 2410.07163, section 5 and Appendix H.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least

CHAINS = ("retain", "forget1", "forget2")


class MarkovMixture(NamedTuple):
    """Initial laws `[3, S]` and transition matrices `[3, S, S]`, float32: retain, forget1, forget2.

    Row s of a matrix is the law of what follows state s.
    """

    init: jax.Array
    trans: jax.Array


def markov_mixture(*, num_states: int = 10, leakage: float = 0.2) -> MarkovMixture:
    """Chains that live on disjoint thirds of the states and leak into the others.

    Chain c owns `S // 3` states. It starts in one of them, and returns to one of them from any of
    them, with probability `1 - leakage`, evenly, and else in any other state, evenly; from a state
    that is not its own it goes anywhere with probability 1 / S.

    Args:
      num_states: S, >= 3.
      leakage: in [0, 1).

    Raises:
      ValueError: other values.
    """
    check_at_least("num_states", num_states, 3)
    if not 0 <= leakage < 1:
        raise ValueError(f"leakage must lie in [0, 1), got {leakage}")
    owned = num_states // 3
    init = np.full((3, num_states), leakage / (num_states - owned))
    trans = np.full((3, num_states, num_states), 1 / num_states)
    for chain in range(3):
        own = slice(chain * owned, (chain + 1) * owned)
        init[chain, own] = (1 - leakage) / owned
        trans[chain, own] = init[chain]
    return MarkovMixture(jnp.asarray(init, jnp.float32), jnp.asarray(trans, jnp.float32))


@functools.partial(jax.jit, static_argnames=("num", "length"))
def sample_markov(
    key: jax.Array, init: jax.Array, trans: jax.Array, *, num: int, length: int
) -> jax.Array:
    """Sequences `[num, length]` int32 of a chain.

    Args:
      key: for the draws.
      init: `[S]` law of the first state.
      trans: `[S, S]`, row s the law of what follows s.
      num, length: static.
    """
    first_key, key = jax.random.split(key)
    first = jax.random.categorical(first_key, jnp.log(init), shape=(num,))
    log_trans = jnp.log(trans)

    def step(state, key):
        state = jax.random.categorical(key, log_trans[state])
        return state, state

    rest = jax.lax.scan(step, first, jax.random.split(key, length - 1))[1]
    return jnp.concatenate([first[None], rest]).T.astype(jnp.int32)


def markov_kl(logits: jax.Array, tokens: jax.Array, trans: jax.Array) -> jax.Array:
    """Mean divergence `[]` of a model's next-token law from the chain's, nats.

    KL(trans[s_t] || softmax(logits_t)) over sequences and t = 0, ..., T - 2, with 0 log 0 = 0.

    Args:
      logits: `[B, T, S]`.
      tokens: `[B, T]` states.
      trans: `[S, S]`.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, tokens, trans = jnp.asarray(logits), jnp.asarray(tokens), jnp.asarray(trans)
    states = trans.shape[-1]
    if logits.shape != (*tokens.shape, states) or trans.shape != (states, states):
        raise ValueError(
            f"need logits [B, T, S], tokens [B, T] and trans [S, S], got {logits.shape}, "
            f"{tokens.shape} and {trans.shape}"
        )
    true = trans[tokens[:, :-1]]
    log_model = jax.nn.log_softmax(as_wide_float(logits[:, :-1]), axis=-1)
    possible = true > 0
    log_ratio = jnp.log(jnp.where(possible, true, 1)) - jnp.where(possible, log_model, 0)
    return jnp.mean(jnp.sum(true * log_ratio, axis=-1))
