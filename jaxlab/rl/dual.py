"""Actor and critics on two devices at once, each with a copy of what it needs of the other.

The halves of one step are dispatched together and overlap; then the devices exchange parameters,
whose size does not grow with the batch. It computes the order "parallel" of `sac_step`.
"""

import functools
from typing import NamedTuple

import jax

from jaxlab.rl.networks import Params
from jaxlab.rl.sac import (
    ActorSide,
    CriticSide,
    Metrics,
    Noise,
    SACConfig,
    SACOptimizers,
    SACState,
    actor_half,
    actor_side,
    check_step_inputs,
    critic_half,
    critic_side,
    join_sides,
    sac_optimizers,
)
from jaxlab.rl.transition import Transition


class OnActorDevice(NamedTuple):
    """The actor's part of the state, a copy of the critics, and the updates done."""

    own: ActorSide
    critic: Params
    step: jax.Array


class OnCriticDevice(NamedTuple):
    """The critics' part of the state, and copies of actor and temperature."""

    own: CriticSide
    actor: Params
    log_alpha: jax.Array


class DualState(NamedTuple):
    """Every leaf of a side lies on that side's device."""

    actor_side: OnActorDevice
    critic_side: OnCriticDevice


def dual_init(state: SACState, actor_device: jax.Device, critic_device: jax.Device) -> DualState:
    """Spreads a state over two devices."""
    on_actor = OnActorDevice(actor_side(state), state.critic, state.step)
    on_critic = OnCriticDevice(critic_side(state), state.actor, state.log_alpha)
    return DualState(
        jax.device_put(on_actor, actor_device), jax.device_put(on_critic, critic_device)
    )


def dual_step(
    dual: DualState,
    batch: Transition,
    noise: Noise,
    config: SACConfig,
    optimizers: SACOptimizers | None = None,
    exchange: bool = True,
) -> tuple[DualState, Metrics]:
    """One update of both sides; a host function, which returns before the devices have finished.

    Args:
      dual: where to start.
      batch: B rows.
      noise: `[B, A]` each.
      config: its `order` must be "parallel".
      optimizers: Adam with the config's rates by default.
      exchange: False leaves each side the copies of the last exchange.

    Returns:
      The next state, and the metrics of `sac_step`, each on the device that made it.

    Raises:
      ValueError: another order, or shapes as in `sac_step`.
    """
    if config.order != "parallel":
        raise ValueError(
            f'two devices compute order "parallel", the config says {config.order!r}; '
            'dataclasses.replace(config, order="parallel")'
        )
    check_step_inputs(batch, noise, config)
    optimizers = optimizers or sac_optimizers(config)
    here, there = dual
    actor_device, critic_device = (_device_of(side) for side in dual)
    critic_input = jax.device_put((batch, noise.next_eps), critic_device)
    actor_input = jax.device_put((batch.obs, noise.eps), actor_device)
    critics, critic_metrics = _critics_step(there, *critic_input, config, optimizers)
    policy, actor_metrics = _actor_step(here.own, here.critic, *actor_input, config, optimizers)
    seen_critic, seen_actor, seen_alpha = here.critic, there.actor, there.log_alpha
    if exchange:
        seen_critic = jax.device_put(critics.critic, actor_device)
        seen_actor, seen_alpha = jax.device_put((policy.actor, policy.log_alpha), critic_device)
    dual = DualState(
        OnActorDevice(policy, seen_critic, here.step + 1),
        OnCriticDevice(critics, seen_actor, seen_alpha),
    )
    return dual, critic_metrics | actor_metrics


def dual_merge(dual: DualState) -> SACState:
    """The whole state on the default device."""
    policy, critics, step = jax.device_put(
        (dual.actor_side.own, dual.critic_side.own, dual.actor_side.step), jax.devices()[0]
    )
    return join_sides(policy, critics, step)


@functools.partial(jax.jit, static_argnames=("config", "optimizers"))
def _critics_step(side: OnCriticDevice, batch, next_eps, config, optimizers):
    return critic_half(side.own, side.actor, side.log_alpha, batch, next_eps, config, optimizers)


@functools.partial(jax.jit, static_argnames=("config", "optimizers"))
def _actor_step(own: ActorSide, critic, obs, eps, config, optimizers):
    # The actor's half reads nothing else of a batch.
    batch = Transition(obs, None, None, None, None)
    return actor_half(own, critic, batch, eps, config, optimizers)


def _device_of(tree) -> jax.Device:
    (device,) = jax.tree.leaves(tree)[0].devices()
    return device
