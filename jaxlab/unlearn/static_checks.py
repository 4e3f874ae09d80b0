"""Checks of static facts: Python numbers, names out of a list, shapes. Traced numbers pass."""

import numbers
from typing import Any

import numpy as np


def require_positive(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is traced or a number > 0."""
    if isinstance(value, numbers.Real) and not float(value) > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def require_not_negative(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is traced or a number >= 0."""
    if isinstance(value, numbers.Real) and not float(value) >= 0:
        raise ValueError(f"{name} must be >= 0, got {value}")


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError with the choices unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def require_same_shape(**arrays: Any) -> None:
    """Raises ValueError with all shapes unless they are equal."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"arrays must have one shape, got {listed}")
