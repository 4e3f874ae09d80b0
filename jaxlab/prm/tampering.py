"""Why a verifier that sees one subquestion alone can be gamed: a closed form.

A subquestion has readings, each with a policy weight w, a solver's success p and an acceptance A
(1 for all where the verifier cannot tell them apart). Choosing among few samples and training on
them moves w <- w p A / sum(w p A).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike


class Drift(NamedTuple):
    """weights [rounds + 1, readings]; reward, right [rounds + 1]: what the verifier accepts, and
    the share of samples that answer the right reading, rightly."""

    weights: jax.Array
    reward: jax.Array
    right: jax.Array


def reading_drift(
    weights: ArrayLike, success: ArrayLike, accepted: ArrayLike, is_right: ArrayLike, rounds: int
) -> Drift:
    """The policy's readings over rounds of best-of-k and training, k small.

    Args:
      weights: [readings] at the start; scaled to sum 1.
      success: [readings] chance that a sample which takes this reading solves it.
      accepted: [readings] in [0, 1], whether the verifier lets it pass.
      is_right: [readings] bool.
      rounds: static.
    """
    weights = jnp.asarray(weights, float)
    success, accepted = jnp.asarray(success, float), jnp.asarray(accepted, float)
    is_right = jnp.asarray(is_right, float)

    def step(w, _):
        moved = w * success * accepted
        return moved / jnp.sum(moved), w

    last, before = jax.lax.scan(step, weights / jnp.sum(weights), None, length=rounds)
    path = jnp.concatenate([before, last[None]])
    return Drift(path, path @ (success * accepted), path @ (success * is_right))
