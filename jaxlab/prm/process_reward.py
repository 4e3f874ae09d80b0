"""The process reward model: its loss at the ends of steps, and the score of a whole trace."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.prm.masking import masked, ratio
from jaxlab.prm.steps import gather_steps, step_ends_from_tokens

AGGREGATES = ("min", "prod", "last", "mean")


def prm_loss(step_logits: ArrayLike, labels: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Mean binary cross-entropy over valid steps, nats; 0 where there is none.

    Args:
      step_logits: logits that a step is right, any shape.
      labels: in [0, 1], soft ones too; same shape.
      mask: true for steps that exist.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(step_logits=step_logits, labels=labels, mask=mask)
    mask = jnp.asarray(mask, bool)
    z, y = masked(step_logits, mask), masked(labels, mask)
    loss = jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return ratio(jnp.sum(jnp.where(mask, loss, 0)), jnp.sum(mask))


def aggregate_steps(scores: ArrayLike, mask: ArrayLike, how: str = "min") -> jax.Array:
    """The score `[...]` of a trace from those of its steps `[..., S]`; 0 without a valid step.

    Args:
      scores: probabilities that each step is right.
      mask: true for steps that exist.
      how: "min", "prod", "last" or "mean".

    Raises:
      ValueError: shapes that differ, another `how`.
    """
    check_equal_shapes(scores=scores, mask=mask)
    check_choice("how", how, AGGREGATES)
    mask = jnp.asarray(mask, bool)
    num_steps = mask.shape[-1]
    if how == "min":
        score = jnp.min(masked(scores, mask, jnp.inf), axis=-1)
    elif how == "prod":
        score = jnp.prod(masked(scores, mask, 1.0), axis=-1)
    elif how == "mean":
        score = ratio(jnp.sum(masked(scores, mask), axis=-1), jnp.sum(mask, axis=-1))
    else:
        last = jnp.max(jnp.where(mask, jnp.arange(num_steps), 0), axis=-1, keepdims=True)
        score = jnp.take_along_axis(masked(scores, mask), last, axis=-1)[..., 0]
    return jnp.where(jnp.any(mask, axis=-1), score, 0)


def as_reward_fn(
    step_logit_fn: Callable[[jax.Array], jax.Array],
    step_id: int,
    max_steps: int,
    how: str = "min",
    empty: float = 0.5,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A process reward model as the reward of whole and partial texts, for searches.

    Args:
      step_logit_fn: tokens `[B, T]` to logits `[B, T]`, read where steps end.
      step_id: the token that ends a step.
      max_steps: steps that are read.
      how: see `aggregate_steps`.
      empty: the reward of a text that has not finished a step.

    Returns:
      (tokens `[B, T]`, lengths `[B]`) to rewards `[B]` in [0, 1].

    Raises:
      ValueError: another `how`.
    """
    check_choice("how", how, AGGREGATES)

    def reward(tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        ends = step_ends_from_tokens(tokens, step_id, max_steps, lengths)
        scores = jax.nn.sigmoid(gather_steps(as_wide_float(step_logit_fn(tokens)), ends))
        finished = ends >= 0
        return jnp.where(jnp.any(finished, axis=1), aggregate_steps(scores, finished, how), empty)

    return reward
