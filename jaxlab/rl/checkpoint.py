"""One checkpoint in a folder, replaced as a whole."""

from os import PathLike
from typing import Any

from jaxlab import runs


def save_checkpoint(path: str | PathLike, tree: Any) -> None:
    """Writes a pytree of arrays, typed keys included, in place of what `path` held.

    A kill at any moment leaves the old one or the new one.
    """
    newest = runs.latest_step(path)
    runs.save_checkpoint(path, tree, step=0 if newest is None else newest + 1, keep=1)


def load_checkpoint(path: str | PathLike, like: Any) -> Any:
    """Reads it into the structure of `like`, equal to the last bit.

    Raises:
      FileNotFoundError: no checkpoint there.
      ValueError: one of another structure, shapes or dtypes.
    """
    return runs.restore_checkpoint(path, like)
