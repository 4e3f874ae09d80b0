"""Mean over seeds with its confidence interval, ready to print."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Spread(NamedTuple):
    """Mean of `n` values and the half width of its confidence interval (Student's t).

    `str()` prints `0.901 ± 0.004, n=20`; a format spec applies to both numbers.
    """

    mean: float
    half_width: float
    low: float
    high: float
    std: float
    n: int

    def __str__(self) -> str:
        return format(self, ".4g")

    def __format__(self, spec: str) -> str:
        spec = spec or ".4g"
        if self.n == 1:
            return f"{self.mean:{spec}}, n=1"
        return f"{self.mean:{spec}} ± {self.half_width:{_width_spec(spec)}}, n={self.n}"


def spread(values, confidence: float = 0.95) -> Spread:
    """Summarises one value per seed.

    Args:
      values: any array-like of finite numbers; it is flattened.
      confidence: level of the two-sided interval, in (0, 1).

    Returns:
      A `Spread`; for one value the interval is empty (half width nan).

    Raises:
      ValueError: no values, non-finite values, or a confidence outside (0, 1).
    """
    values = np.asarray(values, np.float64).ravel()
    if values.size == 0:
        raise ValueError("spread of no values; pass at least one number")
    if not np.isfinite(values).all():
        raise ValueError(
            f"spread of {np.count_nonzero(~np.isfinite(values))} non-finite values out of "
            f"{values.size}; report those seeds separately"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    mean, n = float(values.mean()), values.size
    if n == 1:
        return Spread(mean, np.nan, np.nan, np.nan, np.nan, 1)
    std = float(values.std(ddof=1))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2) * std / np.sqrt(n))
    return Spread(mean, half, mean - half, mean + half, std, n)


def _width_spec(spec: str) -> str:
    """Two significant digits are enough for a half width given in significant digits."""
    return ".2g" if spec.endswith("g") else spec
