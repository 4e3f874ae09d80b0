"""Checks of arguments that several rooms make, in one wording."""

from collections.abc import Collection
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises ValueError with the choices unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_at_least(name: str, value: Any, least: float) -> None:
    """Raises ValueError unless `value`, a static number, is `least` or more."""
    if not value >= least:
        raise ValueError(f"{name} must be >= {least}, got {value}")


def check_equal_shapes(**arrays: Any) -> None:
    """Raises ValueError with all shapes unless they are equal; None is an array not given."""
    shapes = {name: np.shape(array) for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes must be equal, got {listed}")
