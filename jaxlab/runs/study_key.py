"""Random keys of an experiment's parts."""

from typing import Any

import jax


def study_key(config: Any, number: int) -> jax.Array:
    """A key of its own for each use, so that one study alone draws what it draws among all.

    Args:
      config: with the field `seed`.
      number: of the use; no two uses of an experiment share one.
    """
    return jax.random.fold_in(jax.random.key(config.seed), number)
