"""Which segments of shared memory a process created, and whether they are still there."""

from multiprocessing.shared_memory import SharedMemory

from jaxlab.rl import shared_segment


def record(monkeypatch, write):
    """Calls `write(name)` for every segment that this process creates from here on."""

    class Recorded(SharedMemory):
        def __init__(self, *args, create=False, **kwargs):
            super().__init__(*args, create=create, **kwargs)
            if create:
                write(self.name)

    monkeypatch.setattr(shared_segment, "SharedMemory", Recorded)


def exists(name):
    try:
        shared_segment.attach_segment(name).close()
    except FileNotFoundError:
        return False
    return True
