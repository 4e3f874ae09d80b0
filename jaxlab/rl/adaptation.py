"""The number of samplers, fitted while training runs: one more or one fewer is tried at times."""

import math
from typing import NamedTuple

_SETTLE = 0.2  # share of a trial that its samplers have to start
_TRIAL = 0.25  # of the time between trials


class _Rates(NamedTuple):
    sample_hz: float
    update_hz: float


class SamplerTrials:
    """Decides from the clock and two counters; it starts nothing itself.

    A number is kept that samples at least `min_gain` faster and leaves the learner `update_floor`
    of its best rate. Else the one before comes back, and the next trial goes the other way.

    Args:
      n, most: samplers at first, and at most.
      every_s: seconds from one trial to the next.
      min_gain: share of the sampling rate.
      update_floor: share of the best update rate.
    """

    def __init__(
        self,
        n: int,
        most: int,
        *,
        every_s: float = 60.0,
        min_gain: float = 0.05,
        update_floor: float = 0.8,
    ):
        self._kept, self._most, self._every_s = n, most, every_s
        self._min_gain, self._update_floor = min_gain, update_floor
        self._tried: int | None = None
        self._direction, self._best_update_hz = 1, 0.0
        self._start: tuple[float, int, int] | None = None
        self._settled = -math.inf

    def look(self, now: float, env_steps: int, updates: int) -> int:
        """How many samplers should run from now on.

        Args:
          now: seconds by a clock that never goes back.
          env_steps, updates: counts so far.
        """
        if self._start is None:
            if now >= self._settled:
                self._start = now, env_steps, updates
            return self._tried or self._kept
        start, steps, before = self._start
        seconds = now - start
        trial = self._tried is not None
        if seconds < self._every_s * (_TRIAL * (1 - _SETTLE) if trial else 1):
            return self._tried or self._kept
        rates = _Rates((env_steps - steps) / seconds, (updates - before) / seconds)
        self._best_update_hz = max(self._best_update_hz, rates.update_hz)
        if trial:
            self._judge(rates)
        else:
            self._begin(rates)
        self._start, self._settled = None, now + _SETTLE * _TRIAL * self._every_s
        return self._tried or self._kept

    def _begin(self, rates: _Rates) -> None:
        self._usual = rates
        if not 1 <= self._kept + self._direction <= self._most:
            self._direction = -self._direction
        candidate = self._kept + self._direction
        self._tried = candidate if 1 <= candidate <= self._most else None

    def _judge(self, rates: _Rates) -> None:
        gains = rates.sample_hz >= (1 + self._min_gain) * self._usual.sample_hz
        if gains and rates.update_hz >= self._update_floor * self._best_update_hz:
            self._kept = self._tried or self._kept
        else:
            self._direction = -self._direction
        self._tried = None
