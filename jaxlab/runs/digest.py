"""Names for the content of a user's files."""

import hashlib
from typing import Any

import jax
import numpy as np


def digest(tree: Any) -> str:
    """Twelve hexadecimal digits that stand for a pytree: its structure, shapes, dtypes and values.

    A phase that is computed from a user's file carries them in its name (`Run.once`): another file
    under the same name is then another phase.

    Args:
      tree: of arrays, numbers or texts; None is no leaf.

    Raises:
      TypeError: a leaf of another kind, whose content is not seen.
    """
    content = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        if array.dtype.hasobject:
            raise TypeError(f"a digest is of arrays, numbers and texts, got {type(leaf).__name__}")
        content.update(f"{array.dtype.str} {array.shape} ".encode())
        content.update(array.tobytes())
    return content.hexdigest()[:12]
