"""Environments that live on the device, one episode each; vmap makes many of them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_choice
from jaxlab.rl import pendulum
from jaxlab.rl.device_adapters import BACKENDS, Brax, Gymnax


class PendulumState(NamedTuple):
    """theta and speed `()`, and steps taken `()` int32."""

    theta: jax.Array
    speed: jax.Array
    steps: jax.Array


class Pendulum:
    """Pendulum-v1: the protocol of every environment here, two pure functions and three sizes."""

    obs_dim = pendulum.OBS_DIM
    act_dim = pendulum.ACT_DIM
    max_steps = pendulum.MAX_STEPS

    def reset(self, key: jax.Array) -> tuple[PendulumState, jax.Array]:
        """A state at a random angle and speed, and its observation `[O]`."""
        theta, speed = jax.random.uniform(key, (2,), minval=-1.0) * jnp.array([jnp.pi, 1.0])
        state = PendulumState(theta, speed, jnp.zeros((), jnp.int32))
        return state, pendulum.observe(jnp, theta, speed)

    def step(
        self, state: PendulumState, action: jax.Array
    ) -> tuple[PendulumState, jax.Array, jax.Array, jax.Array, jax.Array]:
        """(state, obs `[O]`, reward, terminated, truncated) after action `[A]`; resets nothing."""
        theta, speed, reward = pendulum.advance(jnp, state.theta, state.speed, action[0])
        steps = state.steps + 1
        state = PendulumState(theta, speed, steps)
        truncated = steps >= self.max_steps
        return state, pendulum.observe(jnp, theta, speed), reward, jnp.zeros((), bool), truncated


_ENVIRONMENTS = {"pendulum": Pendulum}


class Beginning(NamedTuple):
    """Where a run on the device starts: keys of what follows, and n environments that are reset.

    Attributes:
      learner_key, run_key: of the learner's parameters, and of everything drawn later.
      env_steps: `()` int32, zero.
      env_states: the environments' states, leading axis [n].
      obs: `[n, O]`.
    """

    learner_key: jax.Array
    run_key: jax.Array
    env_steps: jax.Array
    env_states: Any
    obs: jax.Array


def begin(key: jax.Array, env, config, n_envs: int) -> Beginning:
    """Resets `n_envs` environments.

    Raises:
      ValueError: a config made for other sizes than the environment's.
    """
    _check_sizes(env, config)
    learner_key, env_key, run_key = jax.random.split(key, 3)
    env_states, obs = jax.vmap(env.reset)(jax.random.split(env_key, n_envs))
    return Beginning(learner_key, run_key, jnp.zeros((), jnp.int32), env_states, obs)


class DeviceStep(NamedTuple):
    """What a step of n environments gave: fields and shapes as `vec_env.StepOut`'s first four."""

    next_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


def step_and_renew(
    env, states: Any, action: jax.Array, reset_key: jax.Array
) -> tuple[Any, jax.Array, DeviceStep]:
    """A step of all n environments with actions `[n, A]`; those whose episode ended start anew.

    Returns:
      Their states, the observations `[n, O]` to act on next, and what happened.
    """
    states, *out = jax.vmap(env.step)(states, action)
    out = DeviceStep(*out)
    fresh = jax.vmap(env.reset)(jax.random.split(reset_key, len(action)))
    ended = out.terminated | out.truncated

    def renew(new, old):
        return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    states, obs = jax.tree.map(renew, fresh, (states, out.next_obs))
    return states, obs, out


def _check_sizes(env, config) -> None:
    """Raises ValueError where `config` was made for other sizes than the environment's."""
    for name in ("obs_dim", "act_dim"):
        if getattr(config, name) != getattr(env, name):
            raise ValueError(
                f"config.{name} is {getattr(config, name)}, the environment has "
                f"{getattr(env, name)}"
            )


@functools.cache
def make_env(name: str):
    """The environment of that name; the same object every time, so that programs are reused.

    Args:
      name: `pendulum`, or a library and its environment: `gymnax:NAME`, `brax:NAME`, or `mjx:NAME`
        for Brax on MuJoCo's physics.

    Raises:
      ValueError: unknown name, or an environment without flat, continuous spaces.
      ImportError: the library is not installed.
    """
    library, _, own = name.rpartition(":")
    if library == "gymnax":
        return Gymnax(own)
    if library in BACKENDS:
        return Brax(own, library)
    check_choice("env", name, _ENVIRONMENTS)
    return _ENVIRONMENTS[name]()
