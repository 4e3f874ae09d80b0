"""Pictures of one episode of a policy in a gymnasium environment."""

import numpy as np

from jaxlab.rl.host_policy import act_greedily
from jaxlab.rl.vec_env import GymEnvs


def render_episode(
    env_id: str, params, n_frames: int = 8, seed: int = 0
) -> tuple[list[np.ndarray], float]:
    """Frames `[H, W, 3]` uint8, evenly spaced over an episode, and the episode's return.

    Args:
      env_id: "gym:" and an id of gymnasium.
      params: the actor's, as numpy arrays; it acts without noise.
      n_frames: at most, fewer where the episode is shorter.
      seed: of the start.

    Raises:
      ValueError: another environment, or n_frames below 1.
      ImportError: what draws the environment is not installed.
    """
    kind, _, name = env_id.partition(":")
    if kind != "gym":
        raise ValueError(f"only gym: environments can be drawn, got {env_id!r}")
    if n_frames < 1:
        raise ValueError(f"n_frames must be >= 1, got {n_frames}")
    env = GymEnvs(name, 1, seed, render_mode="rgb_array")
    try:
        obs, total, frames, ended = env.reset(), 0.0, [env.render()], False
        while not ended:
            out = env.step(act_greedily(params, obs))
            ended = bool(out.terminated[0] | out.truncated[0])
            total += float(out.reward[0])
            obs = out.obs
            if not ended:  # after the end the next episode's start would be drawn
                frames.append(env.render())
    finally:
        env.close()
    chosen = np.unique(np.linspace(0, len(frames) - 1, n_frames).round().astype(int))
    return [frames[i] for i in chosen], total
