"""The key of each use, and runs over several keys one after the other in one program."""

import zlib
from collections.abc import Callable
from typing import Any

import jax


def named_key(config, use: str) -> jax.Array:
    """The key of one use of random numbers, by its name: no two uses share draws.

    Nothing draws from the root key itself. Where methods are compared, all get the key of one use,
    so that they see the same rows in the same order.
    """
    return jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(use.encode()))


def over_keys(function: Callable[[jax.Array], Any], key: jax.Array, count: int) -> Any:
    """Results of `function` for `count` keys, stacked `[count, ...]`.

    One after the other: the functions here are bound by arithmetic, where batching gains nothing.
    """
    return jax.jit(lambda keys: jax.lax.map(function, keys))(jax.random.split(key, count))
