"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) as pure functions.

The policy is the squashed Gaussian of the other algorithms, so that whatever plays theirs plays
this one's, too. Rollouts keep the action before the tanh: its density cannot be had exactly from
the action itself.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import check_equal_shapes
from jaxlab.rl.host_policy import LOG_STD_RANGE
from jaxlab.rl.networks import GaussianActor, Params, StateValue, init_network
from jaxlab.rl.sac import actor_apply
from jaxlab.rl.settings import (
    NetworkConfig,
    check_discount_and_rates,
    check_log_std,
    require,
)
from jaxlab.rl.squashed_gaussian import squash_sample, squashed_log_prob

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class PPOConfig(NetworkConfig):
    """Sizes and settings; hashable, a static argument. The first ones are `NetworkConfig`'s.

    Attributes:
      gamma: discount.
      lam: decay of the advantage estimates.
      clip_eps: how far the ratio of policies may move from 1.
      actor_lr, critic_lr: Adam's rates.
      entropy_coef: weight of the policy's entropy (nats) in the actor's loss.
      max_grad_norm: norm to which each network's gradient is clipped.
      log_std_min, log_std_max: range of the actor's log standard deviation.

    Raises:
      ValueError: a value out of range, by name.
    """

    gamma: float = 0.99
    lam: float = 0.95
    clip_eps: float = 0.2
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    entropy_coef: float = 0.0
    max_grad_norm: float = 0.5
    log_std_min: float = LOG_STD_RANGE[0]
    log_std_max: float = LOG_STD_RANGE[1]

    def __post_init__(self):
        super().__post_init__()
        check_discount_and_rates(self)
        require(self, "lam", 0 <= self.lam <= 1, "must lie in [0, 1]")
        require(self, "entropy_coef", self.entropy_coef >= 0, "must be >= 0")
        for name in ("clip_eps", "max_grad_norm"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        check_log_std(self)


class PPOOptimizers(NamedTuple):
    """One optax transformation for each network."""

    actor: optax.GradientTransformation
    critic: optax.GradientTransformation


class PPOState(NamedTuple):
    """What training carries; `step` `()` int32 counts minibatches."""

    actor: Params
    critic: Params
    actor_opt: Any
    critic_opt: Any
    step: jax.Array


class PPOBatch(NamedTuple):
    """Rows that one policy collected.

    Attributes:
      obs: `[B, O]`.
      pre_tanh: `[B, A]`, the action before squashing.
      log_prob: `[B]` of the action under the policy that took it, nats.
      advantage, return_: `[B]`, as `gae` gives them.
    """

    obs: jax.Array
    pre_tanh: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    return_: jax.Array


@functools.lru_cache
def ppo_optimizers(config: PPOConfig) -> PPOOptimizers:
    """Adam behind a clipped norm; one object per config, so that nothing is traced twice."""

    def clipped(rate):
        return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate))

    return PPOOptimizers(clipped(config.actor_lr), clipped(config.critic_lr))


@functools.partial(jax.jit, static_argnames=("config", "optimizers"))
def ppo_init(
    key: jax.Array, config: PPOConfig, optimizers: PPOOptimizers | None = None
) -> PPOState:
    """A fresh state."""
    optimizers = optimizers or ppo_optimizers(config)
    actor_key, critic_key = jax.random.split(key)
    actor = init_network(actor_key, GaussianActor(config.act_dim, config.hidden), config.obs_dim)
    critic = init_network(critic_key, StateValue(config.hidden), config.obs_dim)
    return PPOState(
        actor,
        critic,
        optimizers.actor.init(actor),
        optimizers.critic.init(critic),
        jnp.zeros((), jnp.int32),
    )


def value_apply(critic: Params, obs: jax.Array, config: PPOConfig) -> jax.Array:
    """Values `[...]` of obs `[..., O]`."""
    return StateValue(config.hidden).apply({"params": critic}, obs)


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
    check_equal_shapes(
        reward=reward,
        value=value,
        next_value=next_value,
        terminated=terminated,
        truncated=truncated,
    )
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


def ppo_actor_loss(
    actor: Params, batch: PPOBatch, eps: jax.Array, config: PPOConfig
) -> tuple[jax.Array, Metrics]:
    """The clipped surrogate of normalised advantages, less the weighted entropy.

    Args:
      eps: `[B, A]` standard normal, for an unbiased estimate of the entropy, which a squashed
        Gaussian has no formula for.

    Returns:
      The loss, and `entropy`, `approx_kl` (of the old policy from the new one, both nats) and
      `clip_fraction`.
    """
    mean, log_std = actor_apply(actor, batch.obs, config)
    log_prob = squashed_log_prob(mean, log_std, batch.pre_tanh)
    spread = jnp.std(batch.advantage) + 1e-8
    advantage = (batch.advantage - jnp.mean(batch.advantage)) / spread
    surrogate = ppo_policy_loss(log_prob, batch.log_prob, advantage, config.clip_eps)
    entropy = -jnp.mean(squash_sample(mean, log_std, eps)[1])
    log_ratio = log_prob - batch.log_prob
    metrics = {
        "entropy": entropy,
        "approx_kl": jnp.mean(jnp.expm1(log_ratio) - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > config.clip_eps),
    }
    return surrogate - config.entropy_coef * entropy, metrics


def ppo_critic_loss(critic: Params, batch: PPOBatch, config: PPOConfig) -> jax.Array:
    """Half the mean squared distance of values from returns."""
    value = value_apply(critic, batch.obs, config)
    return jnp.mean(jnp.square(value - batch.return_)) / 2


def ppo_step(
    state: PPOState,
    batch: PPOBatch,
    eps: jax.Array,
    config: PPOConfig,
    optimizers: PPOOptimizers | None = None,
) -> tuple[PPOState, Metrics]:
    """One step of both networks on a minibatch.

    Args:
      state: where to start.
      batch: B rows.
      eps: `[B, A]`, standard normal.
      config: static.
      optimizers: Adam with the config's rates and clipping by default; static.

    Returns:
      The next state, and scalars `actor_loss, critic_loss, entropy, approx_kl, clip_fraction`.

    Raises:
      ValueError: noise or actions of another shape than `[B, A]`.
    """
    expected = (len(batch.return_), config.act_dim)
    for name, array in (("eps", eps), ("batch.pre_tanh", batch.pre_tanh)):
        if array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}, expected {expected}")
    optimizers = optimizers or ppo_optimizers(config)
    (actor_loss, metrics), gradient = jax.value_and_grad(ppo_actor_loss, has_aux=True)(
        state.actor, batch, eps, config
    )
    updates, actor_opt = optimizers.actor.update(gradient, state.actor_opt, state.actor)
    actor = optax.apply_updates(state.actor, updates)
    critic_loss, gradient = jax.value_and_grad(ppo_critic_loss)(state.critic, batch, config)
    updates, critic_opt = optimizers.critic.update(gradient, state.critic_opt, state.critic)
    critic = optax.apply_updates(state.critic, updates)
    metrics |= {"actor_loss": actor_loss, "critic_loss": critic_loss}
    return PPOState(actor, critic, actor_opt, critic_opt, state.step + 1), metrics
