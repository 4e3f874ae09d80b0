"""Between tokens and steps: where steps end, and values carried from one to the other."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float, is_zero
from jaxlab.checks import check_equal_shapes
from jaxlab.prm.masking import masked


def step_ends_from_tokens(
    tokens: ArrayLike, step_id: int, max_steps: int, lengths: ArrayLike | None = None
) -> jax.Array:
    """Positions `[B, max_steps]` int32 of `step_id` in each row, in order, padded with -1.

    Args:
      tokens: `[B, T]` ids.
      step_id: the id that ends a step.
      max_steps: later ones are left out.
      lengths: `[B]`; tokens from there on do not count.
    """
    tokens = jnp.asarray(tokens)
    position = jnp.arange(tokens.shape[1])
    ends = tokens == step_id
    if lengths is not None:
        ends &= position < jnp.asarray(lengths)[:, None]
    slot = jnp.where(ends, jnp.cumsum(ends, axis=1) - 1, max_steps)
    row = jnp.arange(tokens.shape[0])[:, None]
    empty = jnp.full((tokens.shape[0], max_steps), -1, jnp.int32)
    # Slots past the end, of tokens that end nothing and of surplus steps, are dropped.
    return empty.at[row, slot].set(position.astype(jnp.int32), mode="drop")


def gather_steps(token_values: ArrayLike, step_ends: ArrayLike) -> jax.Array:
    """Values `[B, S]` at the tokens `step_ends` `[B, S]` of `[B, T]`; 0 where the end is -1."""
    return _take(token_values, step_ends)


def broadcast_steps(step_values: ArrayLike, step_ids: ArrayLike) -> jax.Array:
    """Values `[B, T]` of each token's step `step_ids` `[B, T]` in `[B, S]`; 0 where it is -1."""
    return _take(step_values, step_ids)


def shape_rewards(
    step_rewards: ArrayLike,
    step_ends: ArrayLike,
    mask: ArrayLike,
    logp: ArrayLike | None = None,
    ref_logp: ArrayLike | None = None,
    kl_coef: float = 0.0,
) -> jax.Array:
    """Token rewards `[B, T]`: each step's at its end, minus kl_coef (logp - ref_logp) everywhere.

    Args:
      step_rewards, step_ends: `[B, S]`; an end of -1 is no step.
      mask: `[B, T]`, true for valid tokens.
      logp, ref_logp: `[B, T]` log-probabilities of policy and reference; for kl_coef only.
      kl_coef: price of leaving the reference; may be traced.

    Raises:
      ValueError: shapes that differ, or a kl_coef without both log-probabilities.
    """
    check_equal_shapes(step_rewards=step_rewards, step_ends=step_ends)
    check_equal_shapes(mask=mask, logp=logp, ref_logp=ref_logp)
    mask, ends = jnp.asarray(mask, bool), jnp.asarray(step_ends)
    exists = ends >= 0
    step_rewards = masked(step_rewards, exists)
    row = jnp.arange(mask.shape[0])[:, None]
    slot = jnp.where(exists, ends, mask.shape[1])
    rewards = jnp.zeros(mask.shape, step_rewards.dtype)
    rewards = rewards.at[row, slot].add(step_rewards, mode="drop")
    if is_zero(kl_coef):
        return rewards
    if logp is None or ref_logp is None:
        raise ValueError(f"kl_coef {kl_coef} needs logp and ref_logp")
    return rewards - kl_coef * (masked(logp, mask) - masked(ref_logp, mask))


def _take(values, index):
    values, index = as_wide_float(values), jnp.asarray(index)
    taken = jnp.take_along_axis(values, jnp.maximum(index, 0), axis=1)
    return jnp.where(index >= 0, taken, 0)
