"""Checks of Python numbers; traced ones pass."""

import numbers
from typing import Any


def require_positive(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is traced or a number > 0."""
    if isinstance(value, numbers.Real) and not float(value) > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def require_not_negative(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is traced or a number >= 0."""
    if isinstance(value, numbers.Real) and not float(value) >= 0:
        raise ValueError(f"{name} must be >= 0, got {value}")
