"""Whole files that are either there or not: write beside, then rename."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_bytes(path: str | os.PathLike, content: bytes) -> Path:
    """Writes `content` to `path` so that a reader, or a kill, never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk has none
        raise
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_text(path: str | os.PathLike, content: str) -> Path:
    """`write_bytes` of UTF-8 text."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """`write_text` of JSON; arrays and array scalars become lists and numbers."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def plain(value: Any) -> Any:
    """The JSON form of what `json` does not know: arrays, array scalars, paths.

    Raises:
      TypeError: for any other type, as `json` asks of its `default`.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form; convert it before writing")
