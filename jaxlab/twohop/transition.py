"""When a phase transition happens, and how sharp it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class PhaseReport(NamedTuple):
    """A transition of a probability over training.

    Attributes:
      found: whether there was one.
      onset: last step below the lower threshold before it.
      end: first step at or above the upper threshold.
      plateau: mean probability over the second half of the time before the onset.
      final: last probability.
      sharpness: onset over the duration of the jump.
    """

    found: bool
    onset: float
    end: float
    plateau: float
    final: float
    sharpness: float


def phase_transition(
    steps: ArrayLike, p_target: ArrayLike, low: float = 0.4, high: float = 0.9
) -> PhaseReport:
    """Finds the jump of `p_target` from below `low` to `high`.

    Args:
      steps: `[E]` increasing.
      p_target: `[E]`.
      low, high: thresholds.

    Returns:
      A `PhaseReport`. Where `high` is never reached, `found` is False, the times are NaN and the
      plateau is the mean over the second half; where no step lies below `low` before, the onset is
      NaN.

    Raises:
      ValueError: vectors of different lengths, fewer than two points, or steps that do not
        increase.
    """
    steps, p = _curve(steps, p_target)
    nan = float("nan")
    above = np.flatnonzero(p >= high)
    if not above.size:
        plateau = p[steps >= steps[-1] / 2].mean()
        return PhaseReport(False, nan, nan, float(plateau), float(p[-1]), nan)
    end = steps[above[0]]
    below = np.flatnonzero((p < low) & (steps < end))
    if not below.size:
        return PhaseReport(False, nan, float(end), nan, float(p[-1]), nan)
    onset = steps[below[-1]]
    plateau = p[(steps >= onset / 2) & (steps <= onset)].mean()
    return PhaseReport(
        True,
        float(onset),
        float(end),
        float(plateau),
        float(p[-1]),
        float(onset / (end - onset)),
    )


def first_crossing(steps: ArrayLike, values: ArrayLike, threshold: float) -> float:
    """The first step with a value of at least `threshold`; NaN if there is none.

    Raises:
      ValueError: as `phase_transition`, but that one point is enough.
    """
    steps, values = _curve(steps, values, least=1)
    crossed = np.flatnonzero(values >= threshold)
    return float(steps[crossed[0]]) if crossed.size else float("nan")


def _curve(steps: ArrayLike, values: ArrayLike, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if steps.ndim != 1 or steps.shape != values.shape or steps.size < least:
        raise ValueError(
            f"steps and values must be vectors of one length >= {least}, got {steps.shape} and "
            f"{values.shape}"
        )
    if not (np.diff(steps) > 0).all():
        raise ValueError("steps must increase")
    return steps, values
