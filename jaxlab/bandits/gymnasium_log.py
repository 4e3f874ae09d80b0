"""Logs of real Gymnasium environments by known policies of different strength."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits.pendulum import controller
from jaxlab.checks import check_at_least


class EpisodeLog(NamedTuple):
    """Episodes of K policies, n of each, in T steps at most.

    Attributes:
      returns: `[K, n]` undiscounted.
      lengths: `[K, n]` steps until the episode ended.
      observations: `[K, n, T, d]`, zero after the end.
      actions: `[K, n, T, ...]`, zero after the end.
    """

    returns: np.ndarray
    lengths: np.ndarray
    observations: np.ndarray
    actions: np.ndarray


def log_episodes(
    env_id: str,
    act: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    num_policies: int,
    num_episodes: int,
    seed: int,
) -> EpisodeLog:
    """Plays every policy `num_episodes` times in one vectorised environment.

    Args:
      env_id: a Gymnasium id, as `CartPole-v1`.
      act: maps observations `[K, n, d]` and a generator to actions `[K, n, ...]`.
      num_policies: K.
      num_episodes: n.
      seed: of the environments and of the generator.

    Raises:
      ImportError: gymnasium is not installed.
      ValueError: a number below 1.
    """
    if num_policies < 1 or num_episodes < 1:
        raise ValueError(
            f"num_policies and num_episodes must be >= 1, got {num_policies} and {num_episodes}"
        )
    import gymnasium

    shape = num_policies, num_episodes
    count = num_policies * num_episodes
    envs = gymnasium.make_vec(env_id, num_envs=count)
    generator = np.random.default_rng(seed)
    alive, returns, lengths = np.ones(count, bool), np.zeros(count), np.zeros(count, int)
    observations, actions = [], []
    try:
        observation, _ = envs.reset(seed=seed)
        while alive.any():
            action = act(observation.reshape(*shape, -1), generator)
            observations.append(_where(alive, observation))
            flat = action.reshape(count, *action.shape[2:])
            actions.append(_where(alive, flat))
            observation, reward, terminated, truncated, _ = envs.step(flat)
            # A finished environment starts again by itself; its next episode is not counted.
            returns += np.where(alive, reward, 0)
            lengths += alive
            alive &= ~(terminated | truncated)
    finally:
        envs.close()
    return EpisodeLog(
        returns.reshape(shape),
        lengths.reshape(shape),
        _by_policy(observations, shape),
        _by_policy(actions, shape),
    )


def cartpole_policies(generator: np.random.Generator, num_policies: int) -> np.ndarray:
    """Linear controllers `[K, 5]`: weights of the four state variables, and how often it errs.

    Their strength runs from a random direction to a controller that balances for good; the weaker
    one is, the more often it acts at random.

    Raises:
      ValueError: `num_policies` below 1.
    """
    check_at_least("num_policies", num_policies, 1)
    strength = generator.uniform(0, 1, (num_policies, 1))
    balances = np.array([0.1, 0.3, 1.0, 1.0])
    weights = strength * balances + (1 - strength) * generator.normal(size=(num_policies, 4))
    return np.concatenate([weights, 0.3 * (1 - strength)], axis=1)


def cartpole_act(policies: np.ndarray) -> Callable:
    """`act` of `log_episodes` for `cartpole_policies`: push by the sign of the weighted sum."""
    weights, error_rate = policies[:, None, :4], policies[:, 4:]

    def act(observations, generator):
        push = (observations * weights).sum(-1) > 0
        errs = generator.uniform(size=push.shape) < error_rate
        return np.where(errs, generator.integers(0, 2, push.shape), push).astype(np.int64)

    return act


def pendulum_act(policies: np.ndarray) -> Callable:
    """`act` of `log_episodes` for `pendulum_policies` `[K, 4]` in Gymnasium's `Pendulum-v1`."""
    gains = jnp.asarray(policies).T[..., None]
    torque = jax.jit(functools.partial(controller, gains))

    def act(observations, generator):
        cosine, sine, speed = np.moveaxis(observations, -1, 0)
        return np.asarray(torque(np.arctan2(sine, cosine), speed))[..., None]

    return act


def _where(alive: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(alive.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0)


def _by_policy(steps: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    stacked = np.stack(steps, axis=1)
    return stacked.reshape(*shape, *stacked.shape[1:])
