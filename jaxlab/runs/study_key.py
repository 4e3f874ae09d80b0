"""Random keys of an experiment's parts."""

import zlib
from typing import Any

import jax


def study_key(config: Any, *uses: int | str) -> jax.Array:
    """A key of its own for each use, so that one study alone draws what it draws among all.

    Where methods are compared, all get the key of one use, so that they see the same draws.

    Args:
      config: with the field `seed`.
      uses: number or name of the use, then of the data set, seed or part within it; no two uses of
        an experiment share theirs, nor begin with those of another.
    """
    key = jax.random.key(config.seed)
    for use in uses:
        key = jax.random.fold_in(key, zlib.crc32(use.encode()) if isinstance(use, str) else use)
    return key
