"""What a log says about each arm: mean reward, count, noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.arrays import as_float, is_concrete
from jaxlab.checks import check_at_least, check_equal_shapes


class ArmStats(NamedTuple):
    """Sufficient statistics of a log with K arms.

    Attributes:
      mean: `[K]` empirical mean reward; anything where `count` is 0.
      count: `[K]` logged rewards, integer or float; 0 marks an arm without data, or padding.
      noise_var: `[K]` variance of one reward around its arm's mean.
    """

    mean: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    noise_var: jax.Array

    @property
    def se2(self) -> jax.Array:
        """`[K]` variance of the empirical mean; infinite where there is no data."""
        mean = as_float(self.mean)
        seen = jnp.asarray(self.count) > 0
        count = jnp.where(seen, self.count, 1).astype(mean.dtype)
        return jnp.where(seen, self.noise_var / count, jnp.inf).astype(mean.dtype)


def arm_stats(
    actions: ArrayLike, rewards: ArrayLike, num_arms: int, sigma: ArrayLike | None = None
) -> ArmStats:
    """Summarises logged pairs of arm and reward.

    Args:
      actions: `[n]` integers in `[0, num_arms)`.
      rewards: `[n]`.
      num_arms: K.
      sigma: standard deviation of one reward, a scalar or `[K]`; None estimates one for all arms
        from the spread within arms, which needs an arm that was seen twice. Do not pass per-arm
        deviations estimated from two to five rewards each: they correlate with the means, and
        arms that look quiet by luck get all the weight.

    Returns:
      `ArmStats` in the dtype of `rewards`; the mean of an unseen arm is 0.

    Raises:
      TypeError: `actions` are not integers.
      ValueError: shapes that differ, an empty log, an arm out of range, a reward that is not
        finite, a sigma that is not positive, or none where no arm was seen twice.
    """
    actions, rewards = jnp.asarray(actions), as_float(rewards)
    if not actions.size:
        raise ValueError("the log is empty; pass at least one action and reward")
    if not jnp.issubdtype(actions.dtype, jnp.integer):
        raise TypeError(f"actions must be integers, got {actions.dtype}")
    if actions.ndim != 1 or rewards.shape != actions.shape:
        raise ValueError(
            f"actions and rewards must be vectors of one length, got {actions.shape} and "
            f"{rewards.shape}"
        )
    check_num_arms(num_arms)
    if is_concrete(actions, rewards):
        low, high = int(actions.min()), int(actions.max())
        if low < 0 or high >= num_arms:
            raise ValueError(f"actions must lie in [0, {num_arms}), got {low} to {high}")
        if not np.isfinite(rewards).all():
            raise ValueError("rewards hold NaN or infinity; remove those rows of the log")
    return _arm_stats(actions, rewards, num_arms, _checked_sigma(sigma, num_arms))


def returns_to_arms(
    returns: ArrayLike, mask: ArrayLike | None = None, sigma: ArrayLike | None = None
) -> ArmStats:
    """Summarises episode returns of K logging policies, each policy an arm.

    Args:
      returns: `[K, n]`.
      mask: `[K, n]` booleans, False where there is no episode (the return there may be NaN).
      sigma: as in `arm_stats`.

    Raises:
      ValueError: shapes that do not fit, an unmasked return that is not finite, nothing unmasked,
        or a sigma as in `arm_stats`.
    """
    returns = as_float(returns)
    if returns.ndim != 2:
        raise ValueError(f"returns must be [K, n], got shape {returns.shape}")
    mask = jnp.ones(returns.shape, bool) if mask is None else jnp.asarray(mask).astype(bool)
    check_equal_shapes(returns=returns, mask=mask)
    if is_concrete(returns, mask):
        if not mask.any():
            raise ValueError("every return is masked out; pass at least one episode")
        if not np.isfinite(np.asarray(returns)[np.asarray(mask)]).all():
            raise ValueError("returns hold NaN or infinity where mask is True; mask them out")
    num_arms = returns.shape[0]
    check_num_arms(num_arms)
    return _returns_to_arms(returns, mask, _checked_sigma(sigma, num_arms))


def check_num_arms(num_arms: int) -> None:
    """Raises ValueError unless there is an arm."""
    check_at_least("num_arms", num_arms, 1)


def _checked_sigma(sigma: ArrayLike | None, num_arms: int) -> jax.Array | None:
    if sigma is None:
        return None
    sigma = as_float(sigma)
    if sigma.shape not in ((), (num_arms,)):
        raise ValueError(f"sigma must be a scalar or ({num_arms},), got shape {sigma.shape}")
    if is_concrete(sigma) and not (np.isfinite(sigma) & (np.asarray(sigma) > 0)).all():
        raise ValueError(f"sigma must be positive and finite, smallest entry {np.min(sigma)}")
    return sigma


def _arm_stats(actions, rewards, num_arms, sigma) -> ArmStats:
    count = jnp.zeros(num_arms, jnp.int32).at[actions].add(1)
    total = jnp.zeros(num_arms, rewards.dtype).at[actions].add(rewards)
    mean = total / jnp.maximum(count, 1)
    squares = jnp.square(rewards - mean[actions]).sum()
    return ArmStats(mean, count, _noise_var(sigma, squares, count, mean))


def _returns_to_arms(returns, mask, sigma) -> ArmStats:
    kept = jnp.where(mask, returns, 0)
    count = mask.sum(1)
    mean = kept.sum(1) / jnp.maximum(count, 1)
    squares = jnp.where(mask, jnp.square(returns - mean[:, None]), 0).sum()
    return ArmStats(mean, count, _noise_var(sigma, squares, count, mean))


def _noise_var(sigma, squares, count, mean) -> jax.Array:
    """`[K]` from the given deviation, or pooled within arms: one common variance."""
    if sigma is not None:
        return jnp.broadcast_to(jnp.square(sigma).astype(mean.dtype), mean.shape)
    freedom = jnp.maximum(count - 1, 0).sum()
    if is_concrete(freedom) and freedom == 0:
        raise ValueError(
            "no arm was seen twice, so the noise cannot be estimated; pass sigma, the standard "
            "deviation of one reward"
        )
    return jnp.broadcast_to(squares / freedom, mean.shape).astype(mean.dtype)
