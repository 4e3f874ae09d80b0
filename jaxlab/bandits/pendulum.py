"""Known logging policies on a real control problem: swing-up of a pendulum by torque.

The dynamics are those of Gymnasium's `Pendulum-v1` (g = 10, m = l = 1, dt = 0.05).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.bandits.instances import count_good

_STEP = 0.05
_MAX_SPEED = 8.0
MAX_TORQUE = 2.0


class Episodes(NamedTuple):
    """Episodes of one horizon T: `theta`, `speed`, `torque`, `reward`, all `[..., T]`."""

    theta: jax.Array
    speed: jax.Array
    torque: jax.Array
    reward: jax.Array


def pendulum_policies(key: jax.Array, num_policies: int, good_fraction: float = 0.5) -> jax.Array:
    """Gains `[K, 4]` of controllers: `(ke, kp, kd, switch)`.

    Within `switch` radians of the top a controller balances by `-kp angle - kd speed`; elsewhere it
    pumps energy with gain `ke`. The first `round(K * good_fraction)` swing up; the others do not
    pump, and are good only when the start is lucky.

    Raises:
      ValueError: `num_policies` below 1 or `good_fraction` outside [0, 1].
    """
    num_good = count_good(num_policies, good_fraction)
    ke, kp, kd, switch = jax.random.split(key, 4)
    good = jnp.arange(num_policies) < num_good
    shape = (num_policies,)
    pump = jnp.where(good, jax.random.uniform(ke, shape, minval=0.5, maxval=3.0), 0.0)
    range_ = jnp.where(good, 0.5, jax.random.uniform(switch, shape, minval=0.2, maxval=3.2))
    return jnp.stack(
        [
            pump,
            jax.random.uniform(kp, shape, minval=8.0, maxval=20.0),
            jax.random.uniform(kd, shape, minval=1.0, maxval=4.0),
            range_,
        ],
        axis=1,
    )


@functools.partial(jax.jit, static_argnames=("num_episodes", "horizon"))
def pendulum_returns(
    key: jax.Array, policies: jax.Array, num_episodes: int, horizon: int = 200
) -> jax.Array:
    """Undiscounted returns `[K, num_episodes]` of independent episodes of each controller.

    Raises:
      ValueError: `policies` that are not `[K, 4]`, or a number below 1.
    """
    return pendulum_episodes(key, policies, num_episodes, horizon).reward.sum(-1)


@functools.partial(jax.jit, static_argnames=("num_episodes", "horizon"))
def pendulum_episodes(
    key: jax.Array, policies: jax.Array, num_episodes: int, horizon: int = 200
) -> Episodes:
    """The episodes `[K, num_episodes, horizon]` whose returns `pendulum_returns` gives.

    Raises:
      ValueError: as `pendulum_returns`.
    """
    policies = jnp.asarray(policies)
    if policies.ndim != 2 or policies.shape[1] != 4:
        raise ValueError(f"policies must be [K, 4], got shape {policies.shape}")
    if num_episodes < 1 or horizon < 1:
        raise ValueError(f"num_episodes and horizon must be >= 1, got {num_episodes} and {horizon}")
    keys = jax.random.split(key, (policies.shape[0], num_episodes))

    def episode(key, gains):
        return rollout(key, functools.partial(controller, gains), horizon)

    return jax.vmap(jax.vmap(episode, in_axes=(0, None)))(keys, policies)


def controller(gains: jax.Array, theta: jax.Array, speed: jax.Array) -> jax.Array:
    """Torque of the controller with gains `(ke, kp, kd, switch)`."""
    ke, kp, kd, switch = gains
    angle = wrap(theta)
    energy = jnp.square(speed) / 6 + 5 * (jnp.cos(angle) - 1)
    balance = -kp * angle - kd * speed
    pump = -ke * energy * jnp.sign(speed + 1e-6)
    torque = jnp.where(jnp.abs(angle) < switch, balance, pump)
    return jnp.clip(torque, -MAX_TORQUE, MAX_TORQUE)


def rollout(key: jax.Array, policy, horizon: int) -> Episodes:
    """One episode of `policy(theta, speed) -> torque` from a random start."""
    angle_key, speed_key = jax.random.split(key)
    theta = jax.random.uniform(angle_key, minval=-jnp.pi, maxval=jnp.pi)
    speed = jax.random.uniform(speed_key, minval=-1.0, maxval=1.0)

    def step(state, _):
        theta, speed = state
        torque = policy(theta, speed)
        following, reward = pendulum_step(theta, speed, torque)
        return following, Episodes(theta, speed, torque, reward)

    return jax.lax.scan(step, (theta, speed), length=horizon)[1]


def pendulum_step(
    theta: jax.Array, speed: jax.Array, torque: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """One step of the dynamics: `((theta, speed), reward)`."""
    angle = wrap(theta)
    reward = -(jnp.square(angle) + 0.1 * jnp.square(speed) + 0.001 * jnp.square(torque))
    speed = speed + (15 * jnp.sin(angle) + 3 * torque) * _STEP
    speed = jnp.clip(speed, -_MAX_SPEED, _MAX_SPEED)
    return (theta + _STEP * speed, speed), reward


def observe(theta: jax.Array, speed: jax.Array) -> jax.Array:
    """What Gymnasium's environment shows of a state: `[..., 3]` of cos, sin and speed."""
    return jnp.stack([jnp.cos(theta), jnp.sin(theta), speed], axis=-1)


def torque_of(outputs: jax.Array) -> jax.Array:
    """The torque `[...]` of a network's one output `[..., 1]`."""
    return MAX_TORQUE * jnp.tanh(outputs[..., 0])


def torque_error(outputs: jax.Array, torque: jax.Array) -> jax.Array:
    """Squared error `[...]` of the torque, the loss of an imitator."""
    return jnp.square(torque_of(outputs) - torque)


def wrap(theta: jax.Array) -> jax.Array:
    """The angle in [-pi, pi)."""
    return jnp.mod(theta + jnp.pi, 2 * jnp.pi) - jnp.pi
