"""The process that collects experience: `python -m jaxlab.rl.sampler`, started by SamplerPool."""

import importlib
import os
import time
from typing import NamedTuple

import numpy as np

from jaxlab.rl.child_process import read_settings
from jaxlab.rl.host_policy import LOG_STD_RANGE, explore
from jaxlab.rl.shared_replay import ReplayHandle, SharedReplay
from jaxlab.rl.stop_words import StopHandle, StopWords
from jaxlab.rl.transition import Transition
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.rl.weight_board import BoardHandle, WeightBoard


class SamplerSettings(NamedTuple):
    """What one sampler is told.

    Attributes:
      replay, board, stop: where to write, read, and look for the end.
      slot: its shard and its flag.
      env_id, n_envs, seed: see `make_vec_env`.
      warmup_steps: transitions, of all samplers together, before the policy is used.
      max_sample_hz: transitions per second at most; None for as many as there can be.
      import_module: imported first, to register environments; None for none.
      log_std_range: the policy's, see `explore`.
      parent: the process without which it ends.
    """

    replay: ReplayHandle
    board: BoardHandle
    stop: StopHandle
    slot: int
    env_id: str
    n_envs: int
    seed: int
    warmup_steps: int
    max_sample_hz: float | None
    import_module: str | None
    log_std_range: tuple[float, float]
    parent: int


def collect(settings: SamplerSettings) -> None:
    """Steps the environments until the flag is up or the parent is gone.

    Raises:
      FloatingPointError: an observation or reward that is not finite, with environment and step.
    """
    if settings.import_module:
        importlib.import_module(settings.import_module)
    env = make_vec_env(settings.env_id, settings.n_envs, settings.seed)
    rng = action_rng(settings.seed, settings.slot)
    stop = StopWords.attach(settings.stop)
    replay, board = SharedReplay.attach(settings.replay), WeightBoard.attach(settings.board)
    obs, steps, version, params = env.reset(), 0, 0, None
    start = time.monotonic()
    while not stop.is_raised(settings.slot) and os.getppid() == settings.parent:
        if board.version() != version:
            version, params = board.read()
        warm = replay.written().sum() >= settings.warmup_steps
        acting = params if warm else None
        batch, obs = take_step(env, obs, acting, rng, steps, settings.log_std_range)
        replay.write(settings.slot, batch)
        steps += 1
        if settings.max_sample_hz:
            ahead = start + steps * env.n_envs / settings.max_sample_hz - time.monotonic()
            time.sleep(max(ahead, 0))
    env.close()


def action_rng(seed: int, slot: int = 0) -> np.random.Generator:
    """Draws the actions in environments of this seed, whose own draws are of another stream."""
    # A zero at the end would change nothing: [seed, 0] seeds as seed does.
    return np.random.default_rng([seed, slot + 1])


def take_step(
    env,
    obs: np.ndarray,
    params,
    rng: np.random.Generator,
    step: int,
    log_std_range: tuple[float, float] = LOG_STD_RANGE,
) -> tuple[Transition, np.ndarray]:
    """One step of every environment.

    Args:
      env, obs: from `make_vec_env`, and what it said last.
      params: of the policy, as numpy arrays; None for uniformly random actions.
      rng: of the actions.
      step: how many there were, for errors.
      log_std_range: see `explore`.

    Returns:
      What to store, and the observations to act on next.

    Raises:
      FloatingPointError: an observation or reward that is not finite, with environment and step.
    """
    if step == 0:
        check_finite(obs, np.zeros(len(obs), np.float32), step)
    if params is None:
        action = rng.uniform(-1, 1, (env.n_envs, env.act_dim)).astype(np.float32)
    else:
        action = explore(params, obs, rng, log_std_range)
    out = env.step(action)
    check_finite(out.next_obs, out.reward, step)
    if out.obs is not out.next_obs:  # where an episode began
        check_finite(out.obs, out.reward, step)
    return Transition(obs, action, out.reward, out.next_obs, out.terminated), out.obs


def check_finite(obs: np.ndarray, reward: np.ndarray, step: int) -> None:
    """Raises FloatingPointError that names the environment and the step."""
    if not (np.isfinite(obs).all() and np.isfinite(reward).all()):
        bad = int(np.argmin(np.isfinite(obs).all(axis=1) & np.isfinite(reward)))
        raise FloatingPointError(
            f"environment {bad} gave obs {obs[bad]} and reward {reward[bad]} at step {step}"
        )


if __name__ == "__main__":
    collect(read_settings())
