"""Labels of steps, and how well a judge finds the first error."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.prm.masking import ratio


def mc_step_labels(
    successes: ArrayLike, counts: ArrayLike, kind: str = "soft"
) -> tuple[jax.Array, jax.Array]:
    """Labels from rollouts that start after each step (Math-Shepherd, arXiv 2312.08935).

    Args:
      successes: how many rollouts reached the final answer, any shape.
      counts: how many there were, same shape.
      kind: "soft", the share that did; "hard", whether any did.

    Returns:
      Labels in [0, 1] and whether there was a rollout; a step without one has label 0.

    Raises:
      ValueError: shapes that differ, unknown kind.
    """
    check_equal_shapes(successes=successes, counts=counts)
    check_choice("kind", kind, ("soft", "hard"))
    successes, counts = as_wide_float(successes), jnp.asarray(counts)
    valid = counts > 0
    share = ratio(successes, counts)
    labels = share if kind == "soft" else jnp.where(valid & (successes > 0), 1, 0)
    return labels.astype(jnp.float32), valid


def first_error(labels: ArrayLike, mask: ArrayLike) -> jax.Array:
    """`[B]` int32, the first valid step of `[B, S]` whose label is below 1/2; S if there is none.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(labels=labels, mask=mask)
    wrong = jnp.asarray(mask, bool) & (as_wide_float(labels) < 0.5)
    num_steps = wrong.shape[-1]
    first = jnp.where(jnp.any(wrong, axis=-1), jnp.argmax(wrong, axis=-1), num_steps)
    return first.astype(jnp.int32)


def propagate_first_error(labels: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Labels `[B, S]`: 1 before the first error, 0 from it on and where the mask is off."""
    mask = jnp.asarray(mask, bool)
    before = jnp.arange(mask.shape[-1]) < first_error(labels, mask)[..., None]
    return (before & mask).astype(jnp.float32)


def first_error_f1(
    pred: ArrayLike, gold: ArrayLike, no_error: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(F1, accuracy on wrong solutions, on right ones): ProcessBench, arXiv 2412.06559.

    A wrong solution counts where the index of its first error is met exactly, a right one where
    no error is found; F1 is the harmonic mean of both shares. An empty class counts 0.

    Args:
      pred, gold: `[N]` indices of the first error.
      no_error: the index that says there is none.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(pred=pred, gold=gold)
    pred, gold = jnp.asarray(pred), jnp.asarray(gold)
    hit, has_error = pred == gold, gold != no_error
    on_wrong = ratio(jnp.sum(hit & has_error), jnp.sum(has_error))
    on_right = ratio(jnp.sum(hit & ~has_error), jnp.sum(~has_error))
    total = on_wrong + on_right
    f1 = jnp.where(total > 0, 2 * on_wrong * on_right / jnp.where(total > 0, total, 1), 0)
    return f1, on_wrong, on_right
