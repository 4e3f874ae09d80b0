"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) as pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import check_choice
from jaxlab.rl.host_policy import LOG_STD_RANGE
from jaxlab.rl.networks import (
    GaussianActor,
    Params,
    critic_apply,
    critic_loss,
    init_critics,
    init_network,
    polyak_update,
)
from jaxlab.rl.settings import OffPolicyConfig, check_log_std, require
from jaxlab.rl.squashed_gaussian import squash_sample
from jaxlab.rl.transition import Transition, check_transition
from jaxlab.rl.update_scan import scan_updates

ORDERS = ("sequential", "parallel")
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """Sizes and settings; hashable, a static argument. The first ones are `OffPolicyConfig`'s.

    Attributes:
      alpha_lr: Adam's rate for the temperature.
      init_alpha: temperature at the start.
      target_entropy: nats; None for -A.
      learn_alpha: False keeps the temperature.
      order: "sequential", the actor sees the new critics; "parallel", both gradients are taken at
        the parameters before the step, so that two devices can work at once.
      log_std_min, log_std_max: range of the actor's log standard deviation.

    Raises:
      ValueError: a value out of range, by name.
    """

    alpha_lr: float = 3e-4
    init_alpha: float = 1.0
    target_entropy: float | None = None
    learn_alpha: bool = True
    order: str = "sequential"
    log_std_min: float = LOG_STD_RANGE[0]
    log_std_max: float = LOG_STD_RANGE[1]

    def __post_init__(self):
        super().__post_init__()
        require(self, "alpha_lr", self.alpha_lr > 0, "must be positive")
        require(self, "init_alpha", self.init_alpha > 0, "must be positive")
        check_choice("order", self.order, ORDERS)
        check_log_std(self)

    @property
    def entropy_goal(self) -> float:
        """The target entropy, -A unless given."""
        return -float(self.act_dim) if self.target_entropy is None else self.target_entropy


class SACOptimizers(NamedTuple):
    """One optax transformation for each set of parameters."""

    actor: optax.GradientTransformation
    critic: optax.GradientTransformation
    alpha: optax.GradientTransformation


class SACState(NamedTuple):
    """What training carries.

    Attributes:
      actor: parameters.
      critic, target_critic: parameters with a leading axis [C].
      log_alpha: `()`, log of the temperature.
      actor_opt, critic_opt, alpha_opt: optimizer states.
      step: `()` int32, updates done.
    """

    actor: Params
    critic: Params
    target_critic: Params
    log_alpha: jax.Array
    actor_opt: Any
    critic_opt: Any
    alpha_opt: Any
    step: jax.Array


class Noise(NamedTuple):
    """Standard normal `[B, A]` for the next actions and for those of the actor's loss."""

    next_eps: jax.Array
    eps: jax.Array


@functools.lru_cache
def sac_optimizers(config: SACConfig) -> SACOptimizers:
    """Adam with the config's rates; one object per config, so that nothing is traced twice."""
    return SACOptimizers(
        optax.adam(config.actor_lr), optax.adam(config.critic_lr), optax.adam(config.alpha_lr)
    )


@functools.partial(jax.jit, static_argnames=("config", "optimizers"))
def sac_init(
    key: jax.Array, config: SACConfig, optimizers: SACOptimizers | None = None
) -> SACState:
    """A fresh state, the target critics equal to the critics."""
    optimizers = optimizers or sac_optimizers(config)
    actor_key, critic_key = jax.random.split(key)
    actor = init_network(actor_key, _actor(config), config.obs_dim)
    critic = init_critics(critic_key, config)
    log_alpha = jnp.log(jnp.float32(config.init_alpha))
    return SACState(
        actor,
        critic,
        jax.tree.map(jnp.copy, critic),
        log_alpha,
        optimizers.actor.init(actor),
        optimizers.critic.init(critic),
        optimizers.alpha.init(log_alpha),
        jnp.zeros((), jnp.int32),
    )


def actor_apply(params: Params, obs: jax.Array, config: Any) -> tuple[jax.Array, jax.Array]:
    """Mean and clipped log standard deviation `[B, A]` before squashing."""
    mean, log_std = _actor(config).apply({"params": params}, obs)
    return mean, jnp.clip(log_std, config.log_std_min, config.log_std_max)


def policy_act(
    actor: Params, obs: jax.Array, config: SACConfig, key: jax.Array | None = None
) -> jax.Array:
    """Actions `[B, A]` for obs `[B, O]`: drawn with `key`, the squashed mean without."""
    mean, log_std = actor_apply(actor, obs, config)
    if key is None:
        return jnp.tanh(mean)
    return squash_sample(mean, log_std, jax.random.normal(key, mean.shape))[0]


def sac_targets(
    target_critic: Params,
    actor: Params,
    log_alpha: jax.Array,
    batch: Transition,
    next_eps: jax.Array,
    config: SACConfig,
) -> jax.Array:
    """r + gamma (1 - terminated) (min_c Q - alpha log pi) at the next state `[B]`, no gradient."""
    action, log_prob = squash_sample(*actor_apply(actor, batch.next_obs, config), next_eps)
    q = jnp.min(critic_apply(target_critic, batch.next_obs, action, config), axis=0)
    value = q - jnp.exp(log_alpha) * log_prob
    return jax.lax.stop_gradient(batch.reward + config.gamma * (1 - batch.terminated) * value)


sac_critic_loss = critic_loss


def sac_actor_loss(
    actor: Params,
    critic: Params,
    log_alpha: jax.Array,
    batch: Transition,
    eps: jax.Array,
    config: SACConfig,
) -> tuple[jax.Array, jax.Array]:
    """Mean of alpha log pi - min_c Q at reparameterised actions; and log pi `[B]`."""
    action, log_prob = squash_sample(*actor_apply(actor, batch.obs, config), eps)
    q = jnp.min(critic_apply(critic, batch.obs, action, config), axis=0)
    return jnp.mean(jnp.exp(log_alpha) * log_prob - q), log_prob


def sac_alpha_loss(log_alpha: jax.Array, log_prob: jax.Array, target_entropy: float) -> jax.Array:
    """-log_alpha times the mean of log pi + target: grows alpha while the entropy is too low."""
    return -log_alpha * jnp.mean(jax.lax.stop_gradient(log_prob + target_entropy))


def draw_noise(key: jax.Array, batch_size: int, act_dim: int) -> Noise:
    """Standard normal noise `[B, A]` for one step."""
    keys = jax.random.split(key)
    return Noise(*(jax.random.normal(k, (batch_size, act_dim)) for k in keys))


class CriticSide(NamedTuple):
    """What the critics' half of a step changes."""

    critic: Params
    target_critic: Params
    critic_opt: Any


class ActorSide(NamedTuple):
    """What the actor's half of a step changes."""

    actor: Params
    log_alpha: jax.Array
    actor_opt: Any
    alpha_opt: Any


def critic_half(
    side: CriticSide,
    actor: Params,
    log_alpha: jax.Array,
    batch: Transition,
    next_eps: jax.Array,
    config: SACConfig,
    optimizers: SACOptimizers,
    reduce: Callable[[Any], Any] = lambda tree: tree,
) -> tuple[CriticSide, Metrics]:
    """The step of critics and targets; `reduce` averages over devices."""
    targets = sac_targets(side.target_critic, actor, log_alpha, batch, next_eps, config)
    (loss, q), gradient = jax.value_and_grad(sac_critic_loss, has_aux=True)(
        side.critic, targets, batch, config
    )
    updates, critic_opt = optimizers.critic.update(reduce(gradient), side.critic_opt, side.critic)
    critic = optax.apply_updates(side.critic, updates)
    target_critic = polyak_update(critic, side.target_critic, config.tau)
    metrics = {"critic_loss": loss, "q_mean": jnp.mean(q), "target_mean": jnp.mean(targets)}
    return CriticSide(critic, target_critic, critic_opt), reduce(metrics)


def actor_half(
    side: ActorSide,
    critic: Params,
    batch: Transition,
    eps: jax.Array,
    config: SACConfig,
    optimizers: SACOptimizers,
    reduce: Callable[[Any], Any] = lambda tree: tree,
) -> tuple[ActorSide, Metrics]:
    """The step of actor and temperature, which reads of the batch only `obs`."""
    (loss, log_prob), gradient = jax.value_and_grad(sac_actor_loss, has_aux=True)(
        side.actor, critic, side.log_alpha, batch, eps, config
    )
    updates, actor_opt = optimizers.actor.update(reduce(gradient), side.actor_opt, side.actor)
    actor = optax.apply_updates(side.actor, updates)
    alpha_loss, alpha_gradient = jax.value_and_grad(sac_alpha_loss)(
        side.log_alpha, log_prob, config.entropy_goal
    )
    log_alpha, alpha_opt = side.log_alpha, side.alpha_opt
    if config.learn_alpha:
        updates, alpha_opt = optimizers.alpha.update(reduce(alpha_gradient), alpha_opt, log_alpha)
        log_alpha = optax.apply_updates(log_alpha, updates)
    metrics = {
        "actor_loss": loss,
        "alpha_loss": alpha_loss,
        "alpha": jnp.exp(side.log_alpha),
        "entropy": -jnp.mean(log_prob),
    }
    return ActorSide(actor, log_alpha, actor_opt, alpha_opt), reduce(metrics)


def sac_step(
    state: SACState,
    batch: Transition,
    noise: Noise,
    config: SACConfig,
    optimizers: SACOptimizers | None = None,
    *,
    axis: str | None = None,
) -> tuple[SACState, Metrics]:
    """One update of critics, targets, actor and temperature.

    Args:
      state: where to start.
      batch: B rows.
      noise: `[B, A]` each.
      config: static.
      optimizers: Adam with the config's rates by default; static.
      axis: name of a device axis over which gradients and metrics are averaged.

    Returns:
      The next state, and scalars `critic_loss, q_mean, target_mean, actor_loss, alpha_loss, alpha`
      (before the step), `entropy` (nats).

    Raises:
      ValueError: a field of the batch, or the noise, of another shape.
    """
    check_step_inputs(batch, noise, config)
    optimizers = optimizers or sac_optimizers(config)
    reduce = functools.partial(jax.lax.pmean, axis_name=axis) if axis else lambda tree: tree
    critics, critic_metrics = critic_half(
        critic_side(state),
        state.actor,
        state.log_alpha,
        batch,
        noise.next_eps,
        config,
        optimizers,
        reduce,
    )
    seen = critics.critic if config.order == "sequential" else state.critic
    policy, actor_metrics = actor_half(
        actor_side(state), seen, batch, noise.eps, config, optimizers, reduce
    )
    return join_sides(policy, critics, state.step + 1), critic_metrics | actor_metrics


def check_step_inputs(batch: Transition, noise: Noise, config: SACConfig) -> None:
    """Raises ValueError for a field of the batch, or the noise, of another shape."""
    rows = check_transition(batch, config.obs_dim, config.act_dim)
    for name, array in zip(Noise._fields, noise, strict=True):
        if array.shape != (rows, config.act_dim):
            raise ValueError(
                f"noise.{name} has shape {array.shape}, expected {(rows, config.act_dim)}"
            )


def critic_side(state: SACState) -> CriticSide:
    """The critics' part of a state."""
    return CriticSide(state.critic, state.target_critic, state.critic_opt)


def actor_side(state: SACState) -> ActorSide:
    """The actor's part of a state."""
    return ActorSide(state.actor, state.log_alpha, state.actor_opt, state.alpha_opt)


def join_sides(policy: ActorSide, critics: CriticSide, step: jax.Array) -> SACState:
    """The state of both parts."""
    return SACState(
        policy.actor,
        critics.critic,
        critics.target_critic,
        policy.log_alpha,
        policy.actor_opt,
        critics.critic_opt,
        policy.alpha_opt,
        step,
    )


def sac_update(
    key: jax.Array,
    state: SACState,
    batch: Transition,
    config: SACConfig,
    optimizers: SACOptimizers | None = None,
) -> tuple[SACState, Metrics]:
    """`sac_step` with noise drawn from `key`."""
    rows = check_transition(batch, config.obs_dim, config.act_dim)
    noise = draw_noise(key, rows, config.act_dim)
    return sac_step(state, batch, noise, config, optimizers)


def sac_update_many(
    key: jax.Array,
    state: SACState,
    batches: Transition,
    config: SACConfig,
    optimizers: SACOptimizers | None = None,
) -> tuple[SACState, Metrics]:
    """U updates in one scan; batches, keys and metrics as in `scan_updates`."""
    update = functools.partial(sac_update, config=config, optimizers=optimizers)
    return scan_updates(update, key, state, batches)


def _actor(config: SACConfig) -> GaussianActor:
    return GaussianActor(config.act_dim, config.hidden)
