"""How much better than expected: generalised, group-relative and process advantages."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.prm.masking import masked

SCALES = ("std", "none")


def gae(
    rewards: ArrayLike,
    values: ArrayLike,
    mask: ArrayLike,
    gamma: float = 1.0,
    lam: float = 0.95,
    ends: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimates over token rows with holes (Schulman et al. 2016).

    The prompts of later subquestions stand between the tokens of an episode; a valid token's
    successor is the next valid one, and what stands in holes is never read.

    Args:
      rewards, values: `[..., T]`, at each token.
      mask: `[..., T]`, true for tokens of the episode.
      gamma, lam: discount, and decay of the estimate.
      ends: `[..., T]`, true where nothing follows although valid tokens do.

    Returns:
      Advantages and returns (advantage plus value) `[..., T]`, 0 where the mask is off.

    Raises:
      ValueError: shapes that differ.
    """
    check_equal_shapes(rewards=rewards, values=values, mask=mask, ends=ends)
    mask = jnp.asarray(mask, bool)
    rewards, values = masked(rewards, mask), masked(values, mask)
    goes_on = jnp.ones_like(mask) if ends is None else ~jnp.asarray(ends, bool)

    def back(later, token):
        next_value, next_advantage = later
        reward, value, valid, goes_on = token
        delta = reward + goes_on * gamma * next_value - value
        advantage = delta + goes_on * gamma * lam * next_advantage
        later = jnp.where(valid, value, next_value), jnp.where(valid, advantage, next_advantage)
        return later, jnp.where(valid, advantage, 0)

    tokens = [jnp.moveaxis(x, -1, 0) for x in (rewards, values, mask, goes_on)]
    nothing = jnp.zeros(rewards.shape[:-1], jnp.result_type(rewards, values))
    _, advantages = jax.lax.scan(back, (nothing, nothing), tuple(tokens), reverse=True)
    advantages = jnp.moveaxis(advantages, 0, -1)
    return advantages, jnp.where(mask, advantages + values, 0)


def group_advantages(
    rewards: ArrayLike, scale: str = "std", eps: float = 1e-4, ddof: int = 1
) -> jax.Array:
    """Rewards of G answers to each of P problems against their group (GRPO, arXiv 2402.03300).

    (r - mean) / (std + eps), or r - mean for scale "none" (Dr. GRPO, arXiv 2503.20783). A group
    of equal rewards, of one answer too, gets exactly 0, and so does its gradient: in float32 the
    mean of equal numbers need not be that number.

    Args:
      rewards: `[P, G]`.
      scale: "std" or "none".
      eps: added to the standard deviation.
      ddof: 1 as in PyTorch, 0 for the population's.

    Raises:
      ValueError: rewards that are not `[P, G]`, an unknown scale.
    """
    rewards = as_wide_float(rewards)
    if rewards.ndim != 2:
        raise ValueError(f"rewards must have shape [P, G], got {rewards.shape}")
    check_choice("scale", scale, SCALES)
    informative = informative_groups(rewards)[:, None]
    centred = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    if scale == "std":
        variance = jnp.sum(jnp.square(centred), axis=1, keepdims=True)
        variance /= max(rewards.shape[1] - ddof, 1)
        # Masked before the root, whose slope at 0 is infinite.
        centred /= jnp.sqrt(jnp.where(informative, variance, 1)) + eps
    return jnp.where(informative, centred, 0)


def informative_groups(rewards: ArrayLike) -> jax.Array:
    """`[P]`: whether the rewards `[P, G]` of a group differ; the others teach nothing."""
    rewards = jnp.asarray(rewards)
    return jnp.any(rewards != rewards[:, :1], axis=1)


def process_advantages(
    step_rewards: ArrayLike, step_mask: ArrayLike, scale: str = "std", eps: float = 1e-4
) -> jax.Array:
    """Advantage of each step: the group-relative rewards of it and of all steps after it.

    All valid step rewards of a group are normalised together, with the population's standard
    deviation (DeepSeekMath, arXiv 2402.03300, section 4.1.3); equal ones give exactly 0.

    Args:
      step_rewards: `[P, G, S]`.
      step_mask: `[P, G, S]`, true for steps that exist.
      scale: "std" or "none".
      eps: added to the standard deviation.

    Returns:
      `[P, G, S]`, 0 where the mask is off.

    Raises:
      ValueError: shapes that differ or have not three axes, an unknown scale.
    """
    check_equal_shapes(step_rewards=step_rewards, step_mask=step_mask)
    check_choice("scale", scale, SCALES)
    mask = jnp.asarray(step_mask, bool)
    if mask.ndim != 3:
        raise ValueError(f"step_rewards must have shape [P, G, S], got {mask.shape}")
    rewards = masked(step_rewards, mask)
    group = (1, 2)
    count = jnp.maximum(jnp.sum(mask, axis=group, keepdims=True), 1)
    mean = jnp.sum(rewards, axis=group, keepdims=True) / count
    centred = jnp.where(mask, rewards - mean, 0)
    lowest = jnp.min(jnp.where(mask, rewards, jnp.inf), axis=group, keepdims=True)
    highest = jnp.max(jnp.where(mask, rewards, -jnp.inf), axis=group, keepdims=True)
    informative = highest > lowest
    if scale == "std":
        variance = jnp.sum(jnp.square(centred), axis=group, keepdims=True) / count
        centred /= jnp.sqrt(jnp.where(informative, variance, 1)) + eps
    to_come = jnp.cumsum(jnp.where(informative, centred, 0)[..., ::-1], axis=-1)[..., ::-1]
    return jnp.where(mask, to_come, 0)
