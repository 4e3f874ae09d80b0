"""Segments of shared memory that name their failures and outlive no creator."""

import os
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

CACHE_LINE = 64
_FOLDER = "/dev/shm"
_first, _second = threading.Lock(), threading.Lock()


def create_segment(size: int) -> SharedMemory:
    """A new segment of zeros.

    Raises:
      OSError: less shared memory is free than that; a sparse segment would die later, by SIGBUS.
    """
    if os.path.isdir(_FOLDER):
        space = os.statvfs(_FOLDER)
        available = space.f_bavail * space.f_frsize
        if size > available:
            raise OSError(
                f"{size:,} bytes of shared memory are needed and {available:,} are available in "
                f"{_FOLDER}: lower the capacity, or give the container more (--shm-size)"
            )
    return SharedMemory(create=True, size=size)


def attach_segment(name: str) -> SharedMemory:
    """A segment that another process created.

    Only its creator may remove it: the tracker of a process that merely attached would do so at
    that process's end (cpython issue 82300), and before Python 3.13 cannot be told otherwise.

    Raises:
      FileNotFoundError: no such segment.
    """
    if sys.version_info >= (3, 13):
        return SharedMemory(name=name, track=False)
    register = resource_tracker.register
    resource_tracker.register = lambda *_: None
    try:
        return SharedMemory(name=name)
    finally:
        resource_tracker.register = register


def fence() -> None:
    """Keeps the memory accesses before it before those after it, on processors that reorder.

    Releasing one lock and taking another does so wherever Python runs, in a tenth of a
    microsecond.
    """
    with _first:
        pass
    with _second:
        pass
