"""Results of finished phases, kept so that a restarted run need not compute them again."""

import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab.runs import atomic

_SEPARATOR = "/"
_RESERVED = ("file", "allow_pickle")


def once(
    path: str | os.PathLike, compute: Callable[[], dict[str, Any]], *, store: bool = True
) -> dict[str, Any]:
    """Returns `compute()` the first time and what was stored afterwards.

    Args:
      path: an `.npz` file; it appears whole or not at all.
      compute: returns a dict, possibly nested, of arrays, numbers, strings and booleans.
      store: False computes without writing (a process that is not the one that writes).

    Returns:
      The same dict with NumPy arrays as leaves, identical whether computed or read.

    Raises:
      ValueError: a leaf that is no array, number, string or boolean or of a dtype that NumPy's
        files do not keep (bfloat16), a key with a slash, or a stored file that is damaged.
    """
    path = Path(path)
    if path.exists():
        return _nest(_read(path))
    flat = _flatten(jax.device_get(compute()))
    if store:
        with io.BytesIO() as buffer:
            np.savez_compressed(buffer, **flat)
            atomic.write_bytes(path, buffer.getvalue())
    return _nest(flat)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        # From memory: numpy leaves a file open that turns out damaged.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read: {error}. Remove it, and the phase is computed again"
        ) from error


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if not isinstance(name, str) or _SEPARATOR in name:
            raise ValueError(f"result names are strings without {_SEPARATOR!r}, got {name!r}")
        if prefix + name in _RESERVED:
            raise ValueError(f"result name {name!r} is an argument of numpy.savez; take another")
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}{_SEPARATOR}")
            continue
        array = np.asarray(value)
        if array.dtype.kind == "V":
            raise ValueError(
                f"result {prefix}{name} of dtype {array.dtype} would be read back as bytes; "
                "convert it, to float32 for one"
            )
        if array.dtype.hasobject:
            raise ValueError(
                f"result {prefix}{name} of type {type(value).__name__} cannot be stored; "
                "return arrays, numbers, strings or dicts of them"
            )
        flat[prefix + name] = array
    return flat


def _nest(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(_SEPARATOR)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
