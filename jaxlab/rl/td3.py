"""Twin delayed deep deterministic policy gradients (Fujimoto et al. 2018, arXiv 1802.09477).

DDPG (Lillicrap et al. 2015, arXiv 1509.02971) is the case of one critic without noise and delay.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.rl.networks import (
    DeterministicActor,
    Params,
    critic_apply,
    critic_loss,
    init_critics,
    init_network,
    polyak_update,
)
from jaxlab.rl.settings import OffPolicyConfig, require
from jaxlab.rl.transition import Transition, check_transition
from jaxlab.rl.update_scan import scan_updates

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class TD3Config(OffPolicyConfig):
    """Sizes and settings; hashable, a static argument. The first ones are `OffPolicyConfig`'s.

    Attributes:
      policy_noise: standard deviation of the noise on the target actor's action.
      noise_clip: its largest size.
      policy_delay: critic updates per update of actor and targets.

    Raises:
      ValueError: a value out of range, by name.
    """

    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_delay: int = 2

    def __post_init__(self):
        super().__post_init__()
        require(self, "policy_delay", self.policy_delay >= 1, "must be >= 1")
        for name in ("policy_noise", "noise_clip"):
            require(self, name, getattr(self, name) >= 0, "must be >= 0")


def ddpg_config(obs_dim: int, act_dim: int, **overrides) -> TD3Config:
    """DDPG: one critic, no noise on the target's action, no delay."""
    settings = {"n_critics": 1, "policy_noise": 0.0, "policy_delay": 1} | overrides
    return TD3Config(obs_dim, act_dim, **settings)


class TD3Optimizers(NamedTuple):
    """One optax transformation for each set of parameters."""

    actor: optax.GradientTransformation
    critic: optax.GradientTransformation


class TD3State(NamedTuple):
    """What training carries; critics have a leading axis [C], `step` counts critic updates."""

    actor: Params
    critic: Params
    target_actor: Params
    target_critic: Params
    actor_opt: Any
    critic_opt: Any
    step: jax.Array


@functools.lru_cache
def td3_optimizers(config: TD3Config) -> TD3Optimizers:
    """Adam with the config's rates; one object per config, so that nothing is traced twice."""
    return TD3Optimizers(optax.adam(config.actor_lr), optax.adam(config.critic_lr))


@functools.partial(jax.jit, static_argnames=("config", "optimizers"))
def td3_init(
    key: jax.Array, config: TD3Config, optimizers: TD3Optimizers | None = None
) -> TD3State:
    """A fresh state, the targets equal to the networks."""
    optimizers = optimizers or td3_optimizers(config)
    actor_key, critic_key = jax.random.split(key)
    actor = init_network(actor_key, _actor(config), config.obs_dim)
    critic = init_critics(critic_key, config)
    return TD3State(
        actor,
        critic,
        jax.tree.map(jnp.copy, actor),
        jax.tree.map(jnp.copy, critic),
        optimizers.actor.init(actor),
        optimizers.critic.init(critic),
        jnp.zeros((), jnp.int32),
    )


def td3_actor_apply(params: Params, obs: jax.Array, config: TD3Config) -> jax.Array:
    """Actions `[B, A]` in (-1, 1) of obs `[B, O]`."""
    return _actor(config).apply({"params": params}, obs)


def td3_targets(
    target_critic: Params,
    target_actor: Params,
    batch: Transition,
    eps: jax.Array,
    config: TD3Config,
) -> jax.Array:
    """r + gamma (1 - terminated) min_c Q at the smoothed next action `[B]`, no gradient.

    Args:
      eps: `[B, A]`, standard normal.
    """
    noise = jnp.clip(config.policy_noise * eps, -config.noise_clip, config.noise_clip)
    action = jnp.clip(td3_actor_apply(target_actor, batch.next_obs, config) + noise, -1, 1)
    q = jnp.min(critic_apply(target_critic, batch.next_obs, action, config), axis=0)
    return jax.lax.stop_gradient(batch.reward + config.gamma * (1 - batch.terminated) * q)


td3_critic_loss = critic_loss


def td3_actor_loss(
    actor: Params, critic: Params, batch: Transition, config: TD3Config
) -> jax.Array:
    """Minus the first critic's mean value of the actor's actions."""
    first = jax.tree.map(lambda leaf: leaf[:1], critic)
    action = td3_actor_apply(actor, batch.obs, config)
    return -jnp.mean(critic_apply(first, batch.obs, action, config))


def td3_step(
    state: TD3State,
    batch: Transition,
    eps: jax.Array,
    config: TD3Config,
    optimizers: TD3Optimizers | None = None,
) -> tuple[TD3State, Metrics]:
    """One update of the critics, and of actor and targets when their turn has come.

    Args:
      state: where to start.
      batch: B rows.
      eps: `[B, A]`, standard normal.
      config: static.
      optimizers: Adam with the config's rates by default; static.

    Returns:
      The next state, and scalars `critic_loss, q_mean, target_mean, actor_loss` (0 when it was
      not the actor's turn).

    Raises:
      ValueError: a field of the batch, or the noise, of another shape.
    """
    rows = check_transition(batch, config.obs_dim, config.act_dim)
    if eps.shape != (rows, config.act_dim):
        raise ValueError(f"eps has shape {eps.shape}, expected {(rows, config.act_dim)}")
    optimizers = optimizers or td3_optimizers(config)
    targets = td3_targets(state.target_critic, state.target_actor, batch, eps, config)
    (critic_loss, q), gradient = jax.value_and_grad(td3_critic_loss, has_aux=True)(
        state.critic, targets, batch, config
    )
    updates, critic_opt = optimizers.critic.update(gradient, state.critic_opt, state.critic)
    critic = optax.apply_updates(state.critic, updates)
    step = state.step + 1

    def improve(policy):
        actor, target_actor, target_critic, actor_opt = policy
        loss, gradient = jax.value_and_grad(td3_actor_loss)(actor, critic, batch, config)
        updates, actor_opt = optimizers.actor.update(gradient, actor_opt, actor)
        actor = optax.apply_updates(actor, updates)
        target_actor = polyak_update(actor, target_actor, config.tau)
        target_critic = polyak_update(critic, target_critic, config.tau)
        return (actor, target_actor, target_critic, actor_opt), loss

    policy = (state.actor, state.target_actor, state.target_critic, state.actor_opt)
    (actor, target_actor, target_critic, actor_opt), actor_loss = jax.lax.cond(
        step % config.policy_delay == 0,
        improve,
        lambda policy: (policy, jnp.zeros_like(critic_loss)),
        policy,
    )
    metrics = {
        "critic_loss": critic_loss,
        "q_mean": jnp.mean(q),
        "target_mean": jnp.mean(targets),
        "actor_loss": actor_loss,
    }
    state = TD3State(actor, critic, target_actor, target_critic, actor_opt, critic_opt, step)
    return state, metrics


def td3_update_many(
    key: jax.Array,
    state: TD3State,
    batches: Transition,
    config: TD3Config,
    optimizers: TD3Optimizers | None = None,
) -> tuple[TD3State, Metrics]:
    """U updates in one scan; batches, keys and metrics as in `scan_updates`."""

    def update(key, state, batch):
        eps = jax.random.normal(key, batch.action.shape)
        return td3_step(state, batch, eps, config, optimizers)

    return scan_updates(update, key, state, batches)


def _actor(config: TD3Config) -> DeterministicActor:
    return DeterministicActor(config.act_dim, config.hidden)
