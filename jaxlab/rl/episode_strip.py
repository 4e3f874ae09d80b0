"""Pictures of one episode of a policy in a gymnasium environment, without jax."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab.checks import check_at_least
from jaxlab.rl.host_policy import act_greedily
from jaxlab.rl.vec_env import GymEnvs

_WIDTH = 240  # pixels of a frame, at most
_STRIP = 8
_FRAME_MS = 50


def render_episode(
    env_id: str, params, n_frames: int = 8, seed: int = 0
) -> tuple[list[np.ndarray], float]:
    """Frames `[H, W, 3]` uint8, evenly spaced over an episode, and the episode's return.

    Args:
      env_id: "gym:" and an id of gymnasium; the pendulums of this package are drawn as gymnasium's,
        whose observations and motion they have.
      params: the actor's, as numpy arrays; it acts without noise.
      n_frames: at most, fewer where the episode is shorter.
      seed: of the start.

    Raises:
      ValueError: another environment, or n_frames below 1.
      ImportError: what draws the environment is not installed.
    """
    kind, _, name = env_id.rpartition(":")
    if name == "pendulum":
        kind, name = "gym", "Pendulum-v1"
    if kind != "gym":
        raise ValueError(f"only pendulum and gym: environments can be drawn, got {env_id!r}")
    check_at_least("n_frames", n_frames, 1)
    env = GymEnvs(name, 1, seed, render_mode="rgb_array")
    try:
        obs, total, frames, ended = env.reset(), 0.0, [env.render()], False
        step, stride = 0, 1
        while not ended:
            out = env.step(act_greedily(params, obs))
            ended = bool(out.terminated[0] | out.truncated[0])
            total += float(out.reward[0])
            obs, step = out.obs, step + 1
            # After the end the next episode's start would be drawn.
            if ended or step % stride:
                continue
            frames.append(env.render())
            if len(frames) > 2 * n_frames:  # a thousand frames would be most of a gigabyte
                frames, stride = frames[::2], 2 * stride
    finally:
        env.close()
    chosen = np.unique(np.linspace(0, len(frames) - 1, n_frames).round().astype(int))
    return [frames[i] for i in chosen], total


def write_episode(folder: str | os.PathLike, frames: list[np.ndarray], total: float) -> None:
    """Writes `episode.gif`, which moves, and `episode.png`, eight frames beside one another.

    A reader never sees half of either.

    Args:
      folder: made where it is missing.
      frames: `[H, W, 3]` uint8 each.
      total: the episode's return, written on the strip.

    Raises:
      ImportError: pillow is missing.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError('drawing needs pillow: pip install "jaxlab[rl]"') from error
    images = [Image.fromarray(frame) for frame in frames]
    for image in images:
        image.thumbnail((_WIDTH, _WIDTH))
    chosen = np.unique(np.linspace(0, len(images) - 1, _STRIP).round().astype(int))
    width, height = images[0].size
    strip = Image.new("RGB", (width * len(chosen), height))
    for place, index in enumerate(chosen):
        strip.paste(images[index], (place * width, 0))
    ImageDraw.Draw(strip).text((4, 4), f"return {total:.1f}", fill=(213, 94, 0), font_size=20)
    moving: dict[str, Any] = {
        "save_all": True,
        "append_images": images[1:],
        "duration": _FRAME_MS,
        "loop": 0,
    }
    for name, image, settings in (
        ("episode.gif", images[0], moving),
        ("episode.png", strip, {}),
    ):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}.{name}")
        image.save(partial, **settings)
        os.replace(partial, path)
