"""Several environments stepped together on the host, without jax."""

from typing import NamedTuple

import numpy as np

from jaxlab.checks import check_at_least
from jaxlab.rl import pendulum


class StepOut(NamedTuple):
    """What a step gave, n rows.

    Attributes:
      next_obs: `[n, O]` float32, the true successor, also where an episode ended.
      reward: `[n]` float32.
      terminated: `[n]` bool, a terminal state was reached.
      truncated: `[n]` bool, a limit ended the episode.
      obs: `[n, O]` float32, what to act on next: a fresh start where an episode ended.
    """

    next_obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    obs: np.ndarray


class NumpyPendulum:
    """n copies of Pendulum-v1 as arrays: a hundred times the speed of n objects."""

    obs_dim = pendulum.OBS_DIM
    act_dim = pendulum.ACT_DIM
    max_steps = pendulum.MAX_STEPS

    def __init__(self, n_envs: int, seed: int):
        self.n_envs = n_envs
        self._rng = np.random.default_rng(seed)

    def reset(self) -> np.ndarray:
        """Starts all anew; observations `[n, O]`."""
        self._theta, self._speed = self._draw(self.n_envs)
        self._steps = np.zeros(self.n_envs, int)
        return self._observe()

    def step(self, action: np.ndarray) -> StepOut:
        """One step of each with actions `[n, 1]` in [-1, 1]."""
        action = _check_action(action, self.n_envs, self.act_dim)
        self._theta, self._speed, reward = pendulum.advance(
            np, self._theta, self._speed, action[:, 0]
        )
        self._steps += 1
        next_obs = self._observe()
        ended = self._steps >= pendulum.MAX_STEPS
        if ended.any():
            self._theta[ended], self._speed[ended] = self._draw(int(ended.sum()))
            self._steps[ended] = 0
        obs = self._observe() if ended.any() else next_obs
        return StepOut(next_obs, reward, np.zeros(self.n_envs, bool), ended, obs)

    def close(self) -> None:
        """Nothing to let go of."""

    def _draw(self, count):
        start = self._rng.uniform(-1, 1, (2, count)).astype(np.float32)
        return np.float32(np.pi) * start[0], start[1]

    def _observe(self):
        return pendulum.observe(np, self._theta, self._speed)


class GymEnvs:
    """n gymnasium environments, stepped one by one.

    Gymnasium's own vector environments return, by their default, a step after the end of an
    episode whose action was ignored; it must not enter a ring.
    """

    def __init__(self, name: str, n_envs: int, seed: int, render_mode: str | None = None):
        gymnasium = _import_gymnasium()
        self.n_envs = n_envs
        # Environments of one's own need not take the argument.
        options = {} if render_mode is None else {"render_mode": render_mode}
        try:
            self._envs = [gymnasium.make(name, **options) for _ in range(n_envs)]
        except gymnasium.error.DependencyNotInstalled as error:
            raise ImportError(f'{name} needs more: pip install "jaxlab[rl]" ({error})') from error
        except gymnasium.error.Error as error:  # unknown, deprecated or malformed
            raise ValueError(f"gymnasium knows no environment {name!r}: {error}") from None
        obs_space, act_space = self._envs[0].observation_space, self._envs[0].action_space
        for what, space in (("observation", obs_space), ("action", act_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise ValueError(f"{name}: the {what} space must be a flat Box, it is {space}")
        self.obs_dim, self.act_dim = obs_space.shape[0], act_space.shape[0]
        if not (np.isfinite(act_space.low).all() and np.isfinite(act_space.high).all()):
            raise ValueError(f"{name}: the action space has no bounds: {act_space}")
        self._middle = (act_space.high + act_space.low) / 2
        self._half = (act_space.high - act_space.low) / 2
        self._seed = seed
        spec = self._envs[0].spec
        self.max_steps: int | None = None if spec is None else spec.max_episode_steps

    def reset(self) -> np.ndarray:
        """Starts all anew, from the seed; observations `[n, O]`."""
        starts = [env.reset(seed=self._seed + i)[0] for i, env in enumerate(self._envs)]
        return np.asarray(starts, np.float32)

    def step(self, action: np.ndarray) -> StepOut:
        """One step of each with actions `[n, A]` in [-1, 1], scaled to the space's bounds."""
        action = _check_action(action, self.n_envs, self.act_dim)
        scaled = self._middle + self._half * np.clip(action, -1, 1)
        next_obs = np.empty((self.n_envs, self.obs_dim), np.float32)
        reward = np.empty(self.n_envs, np.float32)
        terminated, truncated = np.empty((2, self.n_envs), bool)
        for i, env in enumerate(self._envs):
            next_obs[i], reward[i], terminated[i], truncated[i], _ = env.step(scaled[i])
        obs = next_obs
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            obs = next_obs.copy()
            for i in ended:
                obs[i] = self._envs[i].reset()[0]
        return StepOut(next_obs, reward, terminated, truncated, obs)

    def render(self) -> np.ndarray:
        """The first environment as it is now, `[H, W, 3]` uint8, by render_mode "rgb_array".

        Raises:
          ImportError: what draws it is not installed.
        """
        gymnasium = _import_gymnasium()
        try:
            return self._envs[0].render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise ImportError(f"drawing needs more: {error}") from error

    def close(self) -> None:
        """Closes every environment."""
        for env in self._envs:
            env.close()


def make_vec_env(env_id: str, n_envs: int, seed: int = 0):
    """n environments by id: "numpy:pendulum", or "gym:" and an id of gymnasium.

    Raises:
      ValueError: unknown id, n_envs below 1, or spaces other than flat, bounded Boxes.
      ImportError: gymnasium or a part of it is missing, with what to install.
    """
    check_at_least("n_envs", n_envs, 1)
    kind, _, name = env_id.partition(":")
    if kind == "gym" and name:
        return GymEnvs(name, n_envs, seed)
    if env_id == "numpy:pendulum":
        return NumpyPendulum(n_envs, seed)
    raise ValueError(f"env_id must be numpy:pendulum or gym:ID, got {env_id!r}")


def _check_action(action, n_envs: int, act_dim: int) -> np.ndarray:
    action = np.asarray(action, np.float32)
    if action.shape != (n_envs, act_dim):
        raise ValueError(f"action has shape {action.shape}, expected {(n_envs, act_dim)}")
    return action


def _import_gymnasium():
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError('gymnasium is missing: pip install "jaxlab[rl]"') from error
    return gymnasium
