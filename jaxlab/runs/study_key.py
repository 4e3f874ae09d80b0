"""Random keys of an experiment's parts."""

from typing import Any

import jax


def study_key(config: Any, *numbers: int) -> jax.Array:
    """A key of its own for each use, so that one study alone draws what it draws among all.

    Args:
      config: with the field `seed`.
      numbers: of the use, and of the data set, seed or part within it; no two uses of an experiment
        share their numbers, nor begin with those of another.
    """
    key = jax.random.key(config.seed)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key
