"""The key of each study, and runs over several keys one after the other in one program."""

from collections.abc import Callable
from typing import Any

import jax


def study_key(config, number: int) -> jax.Array:
    """The key of study `number`: studies do not share draws."""
    return jax.random.fold_in(jax.random.key(config.seed), number)


def over_keys(function: Callable[[jax.Array], Any], key: jax.Array, count: int) -> Any:
    """Results of `function` for `count` keys, stacked `[count, ...]`.

    One after the other: the functions here are bound by arithmetic, where batching gains nothing.
    """
    return jax.jit(lambda keys: jax.lax.map(function, keys))(jax.random.split(key, count))
