"""Clipped policy and value losses, and estimates of the divergence from a reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float, is_zero
from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.prm.masking import aggregate, masked, ratio

_KL = {
    "k1": lambda d: d,
    "k2": lambda d: jnp.square(d) / 2,
    # exp(-d) - 1 rounds to values below d, so that a third of small ones come out negative.
    "k3": lambda d: jnp.expm1(-d) + d,
}


class PolicyLoss(NamedTuple):
    """Scalars.

    Attributes:
      loss: policy + beta kl.
      policy: the clipped surrogate, to be minimised; 0 on average at a ratio of 1 with
        group-relative advantages, whatever is learned.
      kl: estimate of the divergence from the reference, 0 without one.
      clip_frac: share of valid tokens whose gradient is clipped away.
      approx_kl: k3 estimate of the divergence from the sampling policy.
    """

    loss: jax.Array
    policy: jax.Array
    kl: jax.Array
    clip_frac: jax.Array
    approx_kl: jax.Array


def ppo_loss(
    logp: ArrayLike,
    old_logp: ArrayLike,
    advantages: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ref_logp: ArrayLike | None = None,
    beta: float = 0.0,
    kl_kind: str = "k3",
    agg: str = "token",
) -> PolicyLoss:
    """The clipped surrogate (Schulman et al. 2017), with the KL penalty of GRPO.

    The gradient flows through `logp` alone; masked tokens may hold anything, NaN too.

    Args:
      logp, old_logp: `[B, T]` log-probabilities under the policy and when the tokens were drawn.
      advantages: `[B, T]`, or `[B]` for all tokens of a row.
      mask: `[B, T]`, true for valid tokens.
      clip_low, clip_high: the ratio counts within 1 - clip_low .. 1 + clip_high.
      ref_logp: `[B, T]` under the reference; needed for `beta`.
      beta: weight of the divergence from it; may be traced.
      kl_kind: see `kl_estimate`.
      agg: "token" (over all valid tokens), "sequence" (mean of row means) or "constant" (over
        B T).

    Raises:
      ValueError: shapes that differ, an unknown kind or aggregation, `beta` without a reference.
    """
    advantages = as_wide_float(advantages)
    mask = jnp.asarray(mask, bool)
    if advantages.ndim == 1 and mask.ndim == 2 and len(advantages) == len(mask):
        advantages = jnp.broadcast_to(advantages[:, None], mask.shape)
    check_equal_shapes(
        logp=logp, old_logp=old_logp, advantages=advantages, mask=mask, ref_logp=ref_logp
    )
    check_choice("kl_kind", kl_kind, _KL)
    if ref_logp is None and not is_zero(beta):
        raise ValueError(f"beta {beta} needs ref_logp")
    logp = masked(logp, mask)
    old_logp, advantages = (jax.lax.stop_gradient(masked(x, mask)) for x in (old_logp, advantages))
    d = logp - old_logp
    rho = jnp.exp(d)
    clipped = jnp.clip(rho, 1 - clip_low, 1 + clip_high)
    policy = aggregate(-jnp.minimum(rho * advantages, clipped * advantages), mask, agg)
    kl = jnp.zeros_like(policy)
    if ref_logp is not None:
        reference = jax.lax.stop_gradient(masked(ref_logp, mask))
        kl = aggregate(_KL[kl_kind](logp - reference), mask, agg)
    too_low = (rho < 1 - clip_low) & (advantages < 0)
    too_high = (rho > 1 + clip_high) & (advantages > 0)
    count = jnp.sum(mask)
    return PolicyLoss(
        policy + beta * kl,
        policy,
        kl,
        ratio(jnp.sum(mask & (too_low | too_high)), count),
        ratio(jnp.sum(jnp.expm1(d) - d), count),
    )


def kl_estimate(logp: ArrayLike, ref_logp: ArrayLike, kind: str = "k3") -> jax.Array:
    """Per-token estimates of KL(policy || reference) from tokens of the policy, same shape.

    With d = logp - ref_logp: "k1" d, "k2" d^2 / 2, "k3" exp(-d) - 1 + d, which is unbiased and
    never negative (Schulman 2020, "Approximating KL divergence").

    Raises:
      ValueError: shapes that differ, unknown kind.
    """
    check_equal_shapes(logp=logp, ref_logp=ref_logp)
    check_choice("kind", kind, _KL)
    return _KL[kind](as_wide_float(logp) - as_wide_float(ref_logp))


def value_loss(
    values: ArrayLike,
    old_values: ArrayLike,
    returns: ArrayLike,
    mask: ArrayLike,
    clip: float | None = 0.2,
    agg: str = "token",
) -> jax.Array:
    """Half the squared error of the values `[B, T]`, the larger of it and of the clipped one.

    Args:
      values: predictions, through which the gradient flows.
      old_values: predictions when the tokens were drawn.
      returns: targets.
      mask: true for valid tokens.
      clip: how far from `old_values` a prediction counts; None for no clipping.
      agg: see `ppo_loss`.

    Raises:
      ValueError: shapes that differ, unknown aggregation.
    """
    check_equal_shapes(values=values, old_values=old_values, returns=returns, mask=mask)
    mask = jnp.asarray(mask, bool)
    values = masked(values, mask)
    old_values, returns = (jax.lax.stop_gradient(masked(x, mask)) for x in (old_values, returns))
    error = jnp.square(values - returns)
    if clip is not None:
        near = old_values + jnp.clip(values - old_values, -clip, clip)
        error = jnp.maximum(error, jnp.square(near - returns))
    return aggregate(error / 2, mask, agg)
