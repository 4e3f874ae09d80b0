"""Evaluations as they come: kept, appended to a file, and asked whether the goal is met."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxlab.rl.rates import Throughput, throughput


class EvalPoint(NamedTuple):
    """One evaluation.

    Attributes:
      wall_s: seconds since training was called.
      env_steps: transitions collected by then.
      updates: updates done by then.
      mean_return: mean undiscounted return of the deterministic policy.
    """

    wall_s: float
    env_steps: int
    updates: int
    mean_return: float


class ProgressLog:
    """The history of one call of `train_host`, one line of JSON each in `path` if there is one.

    A line holds the point and the rates since the last: `sample_hz`, `update_hz`,
    `update_frame_hz`. `on_eval` is handed the same. Time counts from `start`, by default from now.
    """

    def __init__(
        self,
        path: Path | None,
        batch_size: int,
        env_steps: int,
        updates: int,
        on_eval: Callable[[dict[str, float]], None] | None = None,
        *,
        start: float | None = None,
    ):
        self.history: list[EvalPoint] = []
        self.path, self._batch_size, self._on_eval = path, batch_size, on_eval
        self._start = time.monotonic() if start is None else start
        self._last = EvalPoint(0.0, env_steps, updates, float("nan"))
        self._from = self._to = 0.0, env_steps, updates
        self._compiled = False

    def seconds(self) -> float:
        """Since training was called."""
        return time.monotonic() - self._start

    def measure_from(self, env_steps: int, updates: int) -> None:
        """The learner's first call is over, which compiled: `throughput` counts from here on."""
        if not self._compiled:
            self._from, self._compiled = (self.seconds(), env_steps, updates), True

    def measure_to(self, env_steps: int, updates: int) -> None:
        """The learner's last call is over."""
        self._to = self.seconds(), env_steps, updates

    def throughput(self) -> Throughput:
        """Rates while samplers and learner were at work."""
        seconds, env_steps, updates = (b - a for a, b in zip(self._from, self._to, strict=True))
        steps = int(env_steps), int(updates)
        return throughput(*steps, self._batch_size, max(seconds, 1e-9))

    def add(self, env_steps: int, updates: int, mean_return: float) -> EvalPoint:
        """Keeps an evaluation of the policy as it is now."""
        point = EvalPoint(self.seconds(), env_steps, updates, mean_return)
        last = self._last
        rates = throughput(
            point.env_steps - last.env_steps,
            point.updates - last.updates,
            self._batch_size,
            max(point.wall_s - last.wall_s, 1e-9),
        )
        self.history.append(point)
        self._last = point
        line = point._asdict() | rates._asdict()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self._on_eval is not None:
            self._on_eval(line)
        return point
