"""Checkpoints through orbax: whole or absent, exact to the last bit, the newest few kept."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import parallel
from jaxlab.checks import check_at_least


def save_checkpoint(path: str | os.PathLike, tree: Any, *, step: int, keep: int | None = 3) -> Path:
    """Writes `tree` to `path/<step>`, then removes all but it and the newest `keep` steps.

    A kill at any moment leaves the earlier steps as they were: the new folder gets its name when
    it is complete. An existing checkpoint of the same step is replaced.

    Args:
      path: folder of the checkpoints.
      tree: a pytree of arrays (typed PRNG keys and empty arrays included) and numbers; with
        several processes, each holds the same values and all call.
      step: a non-negative integer.
      keep: how many of the newest steps stay, and one more where `step` is older; None keeps all.

    Raises:
      ValueError: a negative step or `keep` below 1.
      OSError: it cannot be written (a full disk); the message names the path, and the earlier
        steps are as they were.
    """
    check_at_least("step", step, 0)
    if keep is not None and keep < 1:
        raise ValueError(f"keep must be >= 1 or None, got {keep}")
    path = Path(path).absolute()
    target = path / str(int(step))
    leaves = _storable(tree)
    if jax.process_count() > 1:  # where one that refused would leave the others waiting
        leaves = parallel.to_global(leaves)
    else:
        _check_room(target, leaves)
    with _writing(target), _checkpointer() as checkpointer:
        checkpointer.save(target, leaves, force=True)
    if jax.process_index() == 0 and keep is not None:
        for old in _steps(path)[:-keep]:
            if old != int(step):
                _remove(path / str(old))
    return target


def restore_checkpoint(path: str | os.PathLike, like: Any, *, step: int | None = None) -> Any:
    """Reads a checkpoint into the structure, shapes and dtypes of `like`.

    Args:
      path: folder that `save_checkpoint` wrote to.
      like: a pytree of arrays with the structure that was saved; its values are not used, its
        shardings are.
      step: which step; None takes the newest.

    Raises:
      FileNotFoundError: no checkpoint there, or not of that step.
      ValueError: the checkpoint does not fit `like`, or it is damaged; the message names the path.
    """
    path = Path(path).absolute()
    newest = latest_step(path)
    if newest is None:
        raise FileNotFoundError(f"no checkpoint in {path}")
    step = newest if step is None else step
    target = path / str(step)
    if not target.is_dir():
        raise FileNotFoundError(f"no checkpoint of step {step} in {path}; there are {_steps(path)}")
    several = jax.process_count() > 1
    template = parallel.to_global(_storable(like)) if several else _storable(like)
    with _checkpointer() as checkpointer, _naming(target):
        kept = checkpointer.metadata(target)
        kept = dict(getattr(kept.item_metadata, "tree", kept.item_metadata))
    _check_fit(target, kept, template)
    with _checkpointer() as checkpointer, _naming(target):
        stored = checkpointer.restore(target, template)
    if several:
        stored = parallel.to_local(stored)
    return jax.tree.map(_as_saved, like, _with_empty(like, stored))


def latest_step(path: str | os.PathLike) -> int | None:
    """The newest complete step in `path`, or None where there is none."""
    steps = _steps(Path(path))
    return steps[-1] if steps else None


def _checkpointer():
    # orbax takes over a second to import: only what saves or restores pays for it.
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer()


def _steps(path: Path) -> list[int]:
    if not path.is_dir():
        return []
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdigit())


def _remove(folder: Path) -> None:
    """Takes the name away first, so that a kill cannot leave half a checkpoint under it."""
    doomed = folder.with_name(f".{folder.name}.removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: Any) -> dict[str, Any]:
    """Leaves by path, keys as their data; orbax refuses arrays of size zero, so they stay out."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        if np.size(leaf):
            flat[jax.tree_util.keystr(path, simple=True, separator="/") or "leaf"] = leaf
    return flat


def _with_empty(like: Any, stored: dict[str, Any]) -> Any:
    """The tree of `like` with the stored leaves; the empty ones are taken from `like`."""

    def leaf_at(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "leaf"
        return stored.get(name, leaf)

    return jax.tree_util.tree_map_with_path(leaf_at, like)


def _as_saved(like: Any, stored: Any) -> Any:
    return (
        jax.random.wrap_key_data(stored, impl=jax.random.key_impl(like))
        if _is_key(like)
        else stored
    )


def _check_room(target: Path, leaves: dict[str, Any]) -> None:
    """Beforehand, since a disk that fills makes each of orbax's many writes print a traceback."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(map(_least_bytes, leaves.values()))
    disk = shutil.disk_usage(target.parent)
    if disk.free < needed and disk.total:  # some systems do not say
        raise OSError(
            f"checkpoint {target} cannot be written: it takes {needed / 1e6:.1f} MB and more, and "
            f"{disk.free / 1e6:.1f} MB are left on the disk"
        )


def _least_bytes(leaf: Any) -> int:
    """Of a leaf on the disk: zeros take nothing there, and noise nine tenths of its size."""
    numpy = jnp if isinstance(leaf, jax.Array) else np
    return int(numpy.count_nonzero(leaf)) * np.dtype(numpy.result_type(leaf)).itemsize // 2


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turns what the system refuses the writer into one error that names the checkpoint."""
    try:
        yield
    except (OSError, ValueError) as error:
        # tensorstore's errors of the system have no type of their own.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if isinstance(error, ValueError) and code is None:
            raise
        reason = os.strerror(int(code[1])) if code else error
        raise OSError(f"checkpoint {target} cannot be written: {reason}") from error


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Turns whatever a damaged checkpoint provokes in the reader into one error that names it."""
    try:
        yield
    except Exception as error:  # orbax and tensorstore raise many types
        others = [step for step in _steps(target.parent) if str(step) != target.name]
        raise ValueError(
            f"checkpoint {target} cannot be read: {error}. It is damaged or of another kind; "
            f"remove the folder to go on from another step, of {others}"
        ) from error


def _check_fit(target: Path, kept: dict[str, Any], template: dict[str, Any]) -> None:
    def misfit(what: str) -> ValueError:
        return ValueError(f"checkpoint {target} does not fit: {what}")

    missing = sorted(template.keys() - kept.keys())
    surplus = sorted(kept.keys() - template.keys())
    if missing or surplus:
        raise misfit(f"missing leaves {missing}, surplus leaves {surplus}")
    for name, leaf in template.items():
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        shape, dtype = getattr(kept[name], "shape", ()), getattr(kept[name], "dtype", leaf.dtype)
        if tuple(shape) != leaf.shape:
            raise misfit(f"leaf {name} has shape {tuple(shape)}, wanted {leaf.shape}")
        if leaf.ndim and dtype != leaf.dtype:
            raise misfit(f"leaf {name} has dtype {dtype}, wanted {leaf.dtype}")
