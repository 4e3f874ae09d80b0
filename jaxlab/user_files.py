"""Text, JSON and arrays from files that users bring; errors name the file, and the line."""

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np


def read_text(path: str | PathLike) -> str:
    """The whole text of a UTF-8 file, unpacked if its name ends in .gz.

    Raises:
      FileNotFoundError: no such file.
      ValueError: bytes that are not UTF-8, or not gzip where the name says so.
    """
    opener = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); convert it first") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


def read_json(path: str | PathLike) -> Any:
    """The value of a JSON file; raises as `read_text`, and ValueError for what is not JSON."""
    return _parse(read_text(path), path)


def read_json_lines(path: str | PathLike) -> Iterator[tuple[str, Any]]:
    """(where, value) of each line that is not blank, `where` being PATH:LINE; raises likewise."""
    # Not splitlines: it cuts at U+2028 and others that a JSON string may hold as they are.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _parse(line, path, number)


def read_arrays(
    path: str | PathLike, needed: Iterable[str] | None = None, optional: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name: all, or the needed and, where it holds them, the optional.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is damaged or of another kind, a needed array that is missing, or one
        that holds pickled objects.
    """
    try:
        # From memory: numpy leaves a file open that turns out damaged.
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            wanted = file.files if needed is None else needed
            names = [*wanted, *(name for name in optional if name in file)]
            missing = [name for name in names if name not in file]
            if not missing:
                return {name: file[name] for name in names}
            held = ", ".join(file.files)
    except (ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as why:
        raise ValueError(f"{path} is not a whole .npz file of arrays: {why}") from why
    raise ValueError(f"{path} has no array {', '.join(missing)}; it holds {held}")


def _parse(text: str, path: str | PathLike, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        number = line + error.lineno - 1
        raise ValueError(f"{path}:{number}: not JSON: {error.msg}") from None
