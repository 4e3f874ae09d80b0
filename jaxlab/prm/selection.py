"""Choosing among sampled answers: best of N, votes, reranking, and what to learn from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least, check_equal_shapes


class Rerank(NamedTuple):
    """The best candidates.

    Attributes:
      index: `[P, k]` int32, best first.
      score: `[P, k]`, probability times reward.
      abstain: `[P]`, whether even the best is below the threshold.
    """

    index: jax.Array  # type: ignore[assignment]  # hides tuple.index
    score: jax.Array
    abstain: jax.Array


def best_of_n(scores: ArrayLike, valid: ArrayLike | None = None) -> jax.Array:
    """`[P]` int32, the highest of the scores `[P, N]`, the first of equal ones.

    Without a valid one it is 0.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(scores=scores, valid=valid)
    scores = as_wide_float(scores)
    if valid is not None:
        scores = jnp.where(jnp.asarray(valid, bool), scores, -jnp.inf)
    return jnp.argmax(scores, axis=1).astype(jnp.int32)


def majority_vote(answer_ids: ArrayLike, weights: ArrayLike | None = None) -> jax.Array:
    """`[P]` int32, the answer with most votes, of equal ones that which occurs first.

    Self-consistency (Wang et al. 2023), weighted by a verifier if there are weights.

    Args:
      answer_ids: `[P, N]` ints; -1 is no answer.
      weights: `[P, N]`, >= 0.

    Returns:
      The winning id, -1 where nobody has an answer.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(answer_ids=answer_ids, weights=weights)
    ids = jnp.asarray(answer_ids, jnp.int32)
    given = ids >= 0
    weights = jnp.ones(ids.shape) if weights is None else as_wide_float(weights)
    agree = (ids[:, :, None] == ids[:, None, :]) & given[:, None, :]
    votes = jnp.sum(jnp.where(agree, weights[:, None, :], 0), axis=-1)
    winner = jnp.argmax(jnp.where(given, votes, -1), axis=1)
    return jnp.take_along_axis(ids, winner[:, None], axis=1)[:, 0]


def rerank(
    logp: ArrayLike,
    reward: ArrayLike,
    k: int = 1,
    tau: float = 0.0,
    lengths: ArrayLike | None = None,
) -> Rerank:
    """The k best of K candidates by probability times reward (AutoPRM's reward reranking).

    Compared in logarithms, since the probability of a long text leaves float range.

    Args:
      logp: `[P, K]` log-probabilities of the candidates.
      reward: `[P, K]` in [0, 1]; 0 is legal and comes last.
      k: how many to keep.
      tau: abstain where the best score is below.
      lengths: `[P, K]` tokens; if given, the probability is that per token.

    Raises:
      ValueError: shapes that differ, k outside 1..K.
    """
    check_equal_shapes(logp=logp, reward=reward, lengths=lengths)
    logp, reward = as_wide_float(logp), as_wide_float(reward)
    if not 1 <= k <= logp.shape[1]:
        raise ValueError(f"k must lie in 1..{logp.shape[1]}, got {k}")
    if lengths is not None:
        logp = logp / jnp.maximum(jnp.asarray(lengths), 1)
    log_score = jnp.where(reward > 0, logp + jnp.log(jnp.where(reward > 0, reward, 1)), -jnp.inf)
    best, index = jax.lax.top_k(log_score, k)
    score = jnp.exp(best)
    return Rerank(index.astype(jnp.int32), score, score[:, 0] < tau)


def expert_select(scores: ArrayLike, valid: ArrayLike, k: int, threshold: float = 0.0) -> jax.Array:
    """`[P, K]` bool: the k best valid candidates of score >= threshold, earlier ones on ties.

    Raises:
      ValueError: shapes that differ, k below 1.
    """
    check_equal_shapes(scores=scores, valid=valid)
    check_at_least("k", k, 1)
    scores = as_wide_float(scores)
    allowed = jnp.asarray(valid, bool) & (scores >= threshold)
    order = jnp.argsort(jnp.where(allowed, -scores, jnp.inf), axis=1, stable=True)
    rank = jnp.argsort(order, axis=1)
    return allowed & (rank < k)
