"""Text and JSON from files that users bring; what is wrong is said with the file and the line."""

import gzip
import json
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any


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


def _parse(text: str, path: str | PathLike, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        number = line + error.lineno - 1
        raise ValueError(f"{path}:{number}: not JSON: {error.msg}") from None
