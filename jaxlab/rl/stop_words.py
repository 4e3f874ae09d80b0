"""Flags in shared memory that tell processes to end.

Words, not an Event: a process that is killed while it waits for an Event can block the one who
sets it for ever.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxlab.rl.shared_segment import attach_segment, create_segment


class StopHandle(NamedTuple):
    """What another process needs to attach; picklable."""

    name: str
    size: int


class StopWords:
    """`count` flags, all down at first."""

    def __init__(self, segment, count: int, created: bool):
        self._segment, self._created = segment, created
        self._words: Any = np.frombuffer(segment.buf, np.int64, count)

    @classmethod
    def create(cls, count: int) -> "StopWords":
        """New flags."""
        return cls(create_segment(8 * count), count, created=True)

    @classmethod
    def attach(cls, handle: StopHandle) -> "StopWords":
        """The flags behind a handle. Raises FileNotFoundError when they are gone."""
        return cls(attach_segment(handle.name), handle.size, created=False)

    @property
    def handle(self) -> StopHandle:
        """For `attach`."""
        return StopHandle(self._segment.name, len(self._words))

    def raise_all(self) -> None:
        """Tells everybody to end."""
        self._words[:] = 1

    def put(self, index: int, raised: bool) -> None:
        """Raises or lowers one flag."""
        self._words[index] = raised

    def is_raised(self, index: int) -> bool:
        """Whether the flag is up."""
        return bool(self._words[index])

    def close(self) -> None:
        """Lets go of the memory in this process, and removes it where it was created."""
        self._words = None
        self._segment.close()
        if self._created:
            self._segment.unlink()
