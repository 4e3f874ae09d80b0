"""Finding the batch size and the number of samplers that suit the machine, by measurement."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class TuneResult(NamedTuple):
    """What was measured.

    Attributes:
      best: the chosen candidate.
      rates: candidate to what `measure` returned.
      stopped: "oom", "saturated" or "exhausted".
    """

    best: int
    rates: dict[int, Any]
    stopped: str


def tune_batch_size(
    measure: Callable[[int], float],
    candidates: Sequence[int],
    *,
    min_gain: float = 0.05,
    slack: float = 0.05,
    patience: int = 1,
) -> TuneResult:
    """The smallest batch size whose rate is within `slack` of the best.

    Goes up through the candidates until memory runs out, or `patience` of them in a row gain less
    than `min_gain` over the best before them.

    Args:
      measure: batch size to rows learned from per second.
      candidates: ascending.
      min_gain, slack: shares of the best rate.
      patience: candidates without a gain that are let pass.

    Raises:
      ValueError: no candidates, not positive and ascending, or a rate that is no positive number.
      RuntimeError: even the first candidate does not fit.
    """
    _check_candidates(candidates)
    rates: dict[int, float] = {}
    idle, stopped = 0, "exhausted"
    for size in candidates:
        try:
            rate = _check_rate(measure(size), size)
        except Exception as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if not rates:
                raise RuntimeError(f"not even a batch of {size} fits into memory") from error
            stopped = "oom"
            break
        idle = idle + 1 if rates and rate < (1 + min_gain) * max(rates.values()) else 0
        rates[size] = rate
        if idle >= patience:
            stopped = "saturated"
            break
    enough = (1 - slack) * max(rates.values())
    return TuneResult(min(size for size, rate in rates.items() if rate >= enough), rates, stopped)


def tune_samplers(
    measure: Callable[[int], tuple[float, float]],
    candidates: Sequence[int],
    *,
    update_floor: float = 0.8,
    slack: float = 0.05,
) -> TuneResult:
    """The smallest number of samplers that collects nearly as much as any without harm.

    Harmless is a number with which the learner keeps `update_floor` of its best rate.

    Args:
      measure: number of samplers to (transitions, updates) per second.
      candidates: ascending.
      update_floor: share of the best update rate.
      slack: share of the best harmless sampling rate.

    Raises:
      ValueError: as `tune_batch_size`.
    """
    _check_candidates(candidates)
    rates = {n: tuple(_check_rate(rate, n) for rate in measure(n)) for n in candidates}
    floor = update_floor * max(update_hz for _, update_hz in rates.values())
    harmless = {n: sample_hz for n, (sample_hz, update_hz) in rates.items() if update_hz >= floor}
    enough = (1 - slack) * max(harmless.values())
    best = min(n for n, sample_hz in harmless.items() if sample_hz >= enough)
    return TuneResult(best, rates, "exhausted")


def _check_candidates(candidates: Sequence[int]) -> None:
    ascending = all(a < b for a, b in itertools.pairwise(candidates))
    if not len(candidates) or candidates[0] < 1 or not ascending:
        raise ValueError(f"candidates must be positive and ascending, got {list(candidates)}")


def _check_rate(rate: float, candidate: int) -> float:
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"the rate at {candidate} must be a positive number, got {rate}")
    return rate
