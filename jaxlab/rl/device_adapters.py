"""Environments of gymnax and Brax behind the protocol of `device_envs.Pendulum`.

Their libraries are imported on first use. Episodes are not reset here: `step_and_renew` does that,
after the true successor was stored.
"""

import importlib
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

BACKENDS = ("brax", "mjx")
_BRAX_STEPS = 1000  # its environments have no limit of their own


class GymnaxState(NamedTuple):
    """The environment's own state, and the key of its next step."""

    env: Any
    key: jax.Array


class Gymnax:
    """An environment of gymnax with flat, continuous observations and actions.

    Actions in [-1, 1] are scaled to the space's bounds.

    Raises:
      ImportError: gymnax is not installed.
      ValueError: gymnax has no such environment, or one with other spaces.
    """

    def __init__(self, name: str):
        gymnax = _import("gymnax")
        try:
            self._env, self._params = gymnax.make(name)
        except (ValueError, KeyError) as error:
            raise ValueError(f"gymnax knows no environment {name!r}: {error}") from error
        spaces = (
            self._env.observation_space(self._params),
            self._env.action_space(self._params),
        )
        for what, space in zip(("observation", "action"), spaces, strict=True):
            if not hasattr(space, "low") or len(space.shape) != 1:
                raise ValueError(f"{name}: the {what} space must be a flat Box, it is {space}")
        (self.obs_dim,), (self.act_dim,) = (space.shape for space in spaces)
        low, high = (jnp.broadcast_to(x, self.act_dim) for x in (spaces[1].low, spaces[1].high))
        self._middle, self._half = (high + low) / 2, (high - low) / 2
        self.max_steps = int(self._params.max_steps_in_episode)

    def reset(self, key: jax.Array) -> tuple[GymnaxState, jax.Array]:
        """A fresh state and its observation `[O]`."""
        key, reset_key = jax.random.split(key)
        obs, state = self._env.reset_env(reset_key, self._params)
        return GymnaxState(state, key), obs

    def step(
        self, state: GymnaxState, action: jax.Array
    ) -> tuple[GymnaxState, jax.Array, jax.Array, jax.Array, jax.Array]:
        """(state, obs `[O]`, reward, terminated, truncated) after action `[A]`; resets nothing."""
        key, step_key = jax.random.split(state.key)
        scaled = self._middle + self._half * jnp.clip(action, -1, 1)
        obs, env, reward, terminated, _ = self._env.step_env(
            step_key, state.env, scaled, self._params
        )
        truncated = self._env.is_truncated(env, self._params)
        return GymnaxState(env, key), obs, reward, terminated, truncated


class BraxState(NamedTuple):
    """Brax's own state, and steps taken `()` int32."""

    env: Any
    steps: jax.Array


class Brax:
    """An environment of Brax, on its own physics or on MuJoCo's (`mjx`); 1000 steps an episode.

    Raises:
      ImportError: Brax is not installed.
      ValueError: Brax has no such environment, or one whose observations are no vector.
    """

    max_steps = _BRAX_STEPS

    def __init__(self, name: str, backend: str = "brax"):
        envs = _import("brax.envs")
        settings = {"backend": "mjx"} if backend == "mjx" else {}
        try:
            self._env = envs.get_environment(name, **settings)
        except KeyError as error:
            raise ValueError(f"Brax knows no environment {name!r}") from error
        self.obs_dim, self.act_dim = self._env.observation_size, self._env.action_size
        if not isinstance(self.obs_dim, int):
            raise ValueError(f"{name}: observations must be a vector, they are {self.obs_dim}")

    def reset(self, key: jax.Array) -> tuple[BraxState, jax.Array]:
        """A fresh state and its observation `[O]`."""
        env = self._env.reset(key)
        return BraxState(env, jnp.zeros((), jnp.int32)), env.obs

    def step(
        self, state: BraxState, action: jax.Array
    ) -> tuple[BraxState, jax.Array, jax.Array, jax.Array, jax.Array]:
        """(state, obs `[O]`, reward, terminated, truncated) after action `[A]`; resets nothing."""
        env, steps = self._env.step(state.env, jnp.clip(action, -1, 1)), state.steps + 1
        return BraxState(env, steps), env.obs, env.reward, env.done > 0, steps >= self.max_steps


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} is not installed: pip install "jaxlab[device-envs]"'
        ) from error
