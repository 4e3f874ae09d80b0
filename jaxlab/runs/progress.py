"""A progress bar that stays out of the way."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], desc: str = "", total: int | None = None) -> Iterator[Item]:
    """Iterates with a bar (rate and time left) once two seconds have passed.

    Silent when standard error is not a terminal, as in logs and notebooks under test.
    """
    quiet = not sys.stderr.isatty()
    yield from tqdm(iterable, desc=desc, total=total, delay=2, disable=quiet, leave=False)
