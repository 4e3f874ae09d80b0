"""Search while decoding: beams over steps, and a mix of two distributions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_equal_shapes

_FLOOR = -1e4


class Beam(NamedTuple):
    """States with a leading axis [beam], best first, and their scores `[beam]` in nats."""

    states: Any
    scores: jax.Array


def beam_search(
    key: jax.Array,
    state: Any,
    expand: Callable[[jax.Array, Any], tuple[Any, jax.Array]],
    reward: Callable[[Any], jax.Array],
    *,
    beam: int,
    max_steps: int,
) -> Beam:
    """Beam search over steps, each scored by its log-probability plus the log of its reward.

    Args:
      key: split for every step and beam.
      state: where to start, a pytree of arrays.
      expand: (key, state) to (children with a leading axis m, their log-probabilities `[m]`).
      reward: child to a number in (0, 1].
      beam: states kept after each step.
      max_steps: steps taken.

    Raises:
      ValueError: beam or max_steps below 1.
    """
    if beam < 1 or max_steps < 1:
        raise ValueError(f"beam and max_steps must be >= 1, got {beam} and {max_steps}")

    def step(kept: Beam, key):
        keys = jax.random.split(key, beam)
        children, logp = jax.vmap(expand)(keys, kept.states)
        gain = as_wide_float(logp) + jnp.log(as_wide_float(jax.vmap(jax.vmap(reward))(children)))
        scores, best = jax.lax.top_k((kept.scores[:, None] + gain).reshape(-1), beam)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[best], children)
        return Beam(flat, scores), None

    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (beam, *jnp.shape(x))), state)
    # One live beam: equal ones would fill every place with the same children.
    start = Beam(states, jnp.full(beam, -jnp.inf).at[0].set(0))
    kept, _ = jax.lax.scan(step, start, jax.random.split(key, max_steps))
    return kept


def guided_logits(cond: ArrayLike, uncond: ArrayLike, strength: ArrayLike) -> jax.Array:
    """Log-probabilities `[..., V]` of a mix of two distributions (an extension, not AutoPRM's).

    strength 1 gives that of `cond`, 0 that of `uncond`, more than 1 goes beyond `cond`. A token
    that `cond` rules out (-inf) stays ruled out.

    Args:
      cond, uncond: `[..., V]` logits with and without the context.
      strength: scalar.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(cond=cond, uncond=uncond)
    cond = as_wide_float(cond)
    allowed = cond > -jnp.inf
    c = jnp.where(allowed, _log_softmax(cond), 0)
    u = jnp.maximum(_log_softmax(as_wide_float(uncond)), _FLOOR)
    mix = strength * c + (1 - strength) * u
    return _log_softmax(jnp.where(allowed, mix, -jnp.inf))


def _log_softmax(logits):
    """That of jax.nn, but -inf instead of NaN where every logit is -inf."""
    largest = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - jnp.where(largest > -jnp.inf, largest, 0)
    total = jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True)
    return shifted - jnp.log(jnp.where(total > 0, total, 1))
