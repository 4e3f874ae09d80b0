"""The parts of proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347)."""

import jax
import jax.numpy as jnp


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: float,
    lam: float,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimates (arXiv 1506.02438) over T steps of N environments.

    A truncated step bootstraps from the value of its true successor, and nothing of the next
    episode flows into it.

    Args:
      reward, value: `[T, N]`.
      next_value: `[T, N]`, of the true successor.
      terminated, truncated: `[T, N]`, 1 where an episode ended for good, or by a limit.
      gamma, lam: discount, and decay of the estimate.

    Returns:
      Advantages and returns (advantage plus value) `[T, N]`.

    Raises:
      ValueError: shapes that differ.
    """
    shapes = {x.shape for x in (reward, value, next_value, terminated, truncated)}
    if len(shapes) > 1:
        raise ValueError(f"all arrays must have one shape [T, N], got {sorted(shapes)}")
    goes_on = 1 - jnp.asarray(terminated, jnp.float32)
    delta = reward + gamma * goes_on * next_value - value
    decay = gamma * lam * goes_on * (1 - jnp.asarray(truncated, jnp.float32))

    def back(later, step):
        delta, decay = step
        advantage = delta + decay * later
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantage, advantage + value


def ppo_policy_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, clip_eps: float
) -> jax.Array:
    """Minus the mean clipped surrogate of any common shape."""
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
