"""Parameters published in shared memory: the newest version, whole, without waiting for anybody.

A ring of slots, each with a sequence number that is odd while the slot is written. A reader copies
the newest slot and keeps the copy if the number was even, that of the version, and is unchanged.
With one slot a fast publisher would starve readers; with four it does not.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from jaxlab.rl.shared_segment import CACHE_LINE, attach_segment, create_segment, fence

_SLOTS = 4
_WORDS = CACHE_LINE // 8
_POLL = 1e-3  # seconds


class Leaf(NamedTuple):
    """An array of the template: where it stands in the tree, and in a slot."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


class BoardHandle(NamedTuple):
    """What another process needs to attach; picklable."""

    name: str
    leaves: tuple[Leaf, ...]


class WeightBoard:
    """Nested dicts of arrays, published by one process at a time and read by any."""

    def __init__(self, segment, leaves: tuple[Leaf, ...], created: bool):
        self._segment, self._leaves, self._created = segment, leaves, created
        lines = np.frombuffer(segment.buf, np.int64, (1 + _SLOTS) * _WORDS)
        lines = lines.reshape(1 + _SLOTS, _WORDS)
        self._version: Any = lines[0, :1]
        self._sequence: Any = lines[1:, 0]
        header, size = (1 + _SLOTS) * CACHE_LINE, _slot_size(leaves)
        self._slots: Any = [
            [self._view(leaf, header + slot * size) for leaf in leaves] for slot in range(_SLOTS)
        ]

    @classmethod
    def create(cls, params: dict[str, Any]) -> "WeightBoard":
        """A board for trees like `params`, which only serve as a template.

        Raises:
          ValueError: no array in the template.
          OSError: too little shared memory.
        """
        leaves, offset = [], 0
        for path, array in _flatten(params):
            leaves.append(Leaf(path, array.shape, array.dtype, offset))
            offset += -(-array.nbytes // CACHE_LINE) * CACHE_LINE
        if not leaves:
            raise ValueError("the template holds no array")
        size = (1 + _SLOTS) * CACHE_LINE + _SLOTS * _slot_size(leaves)
        return cls(create_segment(size), tuple(leaves), created=True)

    @classmethod
    def attach(cls, handle: BoardHandle) -> "WeightBoard":
        """The board behind a handle. Raises FileNotFoundError when it is gone."""
        return cls(attach_segment(handle.name), handle.leaves, created=False)

    @property
    def handle(self) -> BoardHandle:
        """For `attach`."""
        return BoardHandle(self._segment.name, self._leaves)

    def publish(self, params: dict[str, Any]) -> int:
        """Makes `params` the newest version, and returns its number, from 1.

        Raises:
          ValueError: another tree, shape or dtype than the template's, by name.
        """
        arrays = self._check(params)
        version = self.version() + 1
        slot = version % _SLOTS
        # Set, not incremented: a publisher killed in between would leave the wrong parity.
        self._sequence[slot] = 2 * version - 1
        fence()
        for view, array in zip(self._slots[slot], arrays, strict=True):
            view[...] = array
        fence()
        self._sequence[slot] = 2 * version
        fence()
        self._version[0] = version
        return version

    def read(self, timeout: float = 1.0) -> tuple[int, dict[str, Any]]:
        """The newest version and a private copy of its parameters.

        Raises:
          TimeoutError: nothing was published, or nothing could be read whole, for that long.
        """
        deadline = time.monotonic() + timeout
        while True:
            version = self.version()
            slot = version % _SLOTS
            if version and self._sequence[slot] == 2 * version:
                fence()
                copies = [view.copy() for view in self._slots[slot]]
                fence()
                if self._sequence[slot] == 2 * version:
                    paths = [leaf.path for leaf in self._leaves]
                    return version, nest(dict(zip(paths, copies, strict=True)))
            if time.monotonic() > deadline:
                raise TimeoutError(f"no parameters could be read within {timeout} s")
            time.sleep(0 if version else _POLL)

    def version(self) -> int:
        """The newest version's number, 0 before the first."""
        return int(self._version[0])

    def continue_from(self, version: int) -> None:
        """Counts on from the version of an earlier board, whose parameters are then published."""
        self._version[0] = version

    def close(self) -> None:
        """Lets go of the memory in this process."""
        self._slots = self._version = self._sequence = None
        self._segment.close()

    def unlink(self) -> None:
        """Removes the segment; processes that are attached keep what they have."""
        self._segment.unlink()

    def __enter__(self) -> "WeightBoard":
        return self

    def __exit__(self, *_) -> None:
        self.close()
        if self._created:
            self.unlink()

    def _view(self, leaf: Leaf, start: int) -> np.ndarray:
        count = int(np.prod(leaf.shape, dtype=int))
        flat = np.frombuffer(self._segment.buf, leaf.dtype, count, offset=start + leaf.offset)
        return flat.reshape(leaf.shape)

    def _check(self, params) -> list[np.ndarray]:
        given = dict(_flatten(params))
        for path in given.keys() ^ {leaf.path for leaf in self._leaves}:
            where = "is not in the template" if path in given else "is missing"
            raise ValueError(f"parameter {'/'.join(path)} {where}")
        for leaf in self._leaves:
            array = given[leaf.path]
            if array.shape != leaf.shape or array.dtype != leaf.dtype:
                raise ValueError(
                    f"parameter {'/'.join(leaf.path)} is {array.dtype} {array.shape}, "
                    f"the template's is {leaf.dtype} {leaf.shape}"
                )
        return [given[leaf.path] for leaf in self._leaves]


def _slot_size(leaves) -> int:
    last = leaves[-1]
    nbytes = int(np.prod(last.shape, dtype=int)) * last.dtype.itemsize
    return last.offset + -(-nbytes // CACHE_LINE) * CACHE_LINE


def _flatten(tree, path=()):
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from _flatten(tree[name], (*path, name))
    else:
        yield path, np.asarray(tree)


def nest(leaves: dict[tuple[str, ...], np.ndarray]) -> dict[str, Any]:
    """Nested dicts of arrays that are given by their paths."""
    tree: dict[str, Any] = {}
    for (*parents, name), array in leaves.items():
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = array
    return tree
