"""Other ways to choose among scored responses."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.arrays import is_concrete


def weighted_vote(
    answers: Sequence[Hashable], weights: Iterable[float] | None = None
) -> tuple[Any, dict[Any, float]]:
    """(the answer of the largest total weight, {answer: total}); ties go to the one seen first.

    Without weights a majority vote (self-consistency, Wang et al. 2023); with rewards as weights
    the vote of Li et al. 2023.

    Raises:
      ValueError: no answers, or another number of weights.
    """
    answers = list(answers)
    weights = [1.0] * len(answers) if weights is None else [float(weight) for weight in weights]
    if not answers or len(weights) != len(answers):
        raise ValueError(
            f"need at least one answer and one weight for each, got {len(answers)} answers and "
            f"{len(weights)} weights"
        )
    totals: dict[Any, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        totals[answer] = totals.get(answer, 0.0) + weight
    return max(totals, key=totals.__getitem__), totals


def soft_best_of_n(key: jax.Array, scores: jax.Array, temperature: float) -> jax.Array:
    """An index drawn with probability softmax(scores / temperature) (Verdun et al. 2025).

    scores [..., n] -> int32 [...]; near temperature 0 it is Best-of-N, far above the scores' spread
    a plain sample. Raises ValueError for a temperature <= 0.
    """
    if is_concrete(temperature) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; use argmax for 0")
    return jax.random.categorical(key, jnp.asarray(scores) / temperature)
