"""Draws an episode of the policy after some of its evaluations, without jax."""

import os
from collections.abc import Callable
from typing import NamedTuple

from jaxlab.rl.episode_strip import render_episode, write_episode

_FRAMES = 100
_BESIDE_A_PAGE = 10  # evaluations from one episode to the next


class RecordSettings(NamedTuple):
    """What is drawn, and where.

    Attributes:
      env_id: see `render_episode`.
      folder: where `write_episode` puts the pictures.
      every: evaluations from one drawn episode to the next.
    """

    env_id: str
    folder: str
    every: int


def what_to_record(
    env_id: str, folder: str | os.PathLike | None, every: int | None, shown: bool
) -> RecordSettings | None:
    """Settings for every n-th evaluation, or None where nothing is drawn.

    Args:
      env_id: see `render_episode`.
      folder: where pictures go; None where nobody keeps them.
      every: n; 0 for none, None for every tenth where a page shows them.
      shown: whether a page does.
    """
    if every is None:
        every = _BESIDE_A_PAGE if shown else 0
    return RecordSettings(env_id, str(folder), every) if every and folder is not None else None


class Recorder:
    """Counts evaluations; draws the first and every n-th after it.

    What cannot be drawn must not end a training: the reason is said once, and no more is tried.
    """

    def __init__(self, settings: RecordSettings | None, say: Callable[[str], None] = print):
        self._settings, self._say, self._count = settings, say, 0

    def look(self, params) -> None:
        """After an evaluation of the actor `params`, as numpy arrays."""
        settings = self._settings
        if settings is None:
            return
        if self._count % settings.every == 0:
            try:
                frames, total = render_episode(settings.env_id, params, _FRAMES)
                write_episode(settings.folder, frames, total)
            except Exception as error:  # of any library that draws
                self._say(f"no pictures of episodes: {error}")
                self._settings = None
        self._count += 1
