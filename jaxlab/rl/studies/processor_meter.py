"""How busy a training keeps the processors, from /proc: its own process and its children."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from jaxlab.runs.environment import processor_count

_PROC = Path("/proc")
_SAMPLER = b"jaxlab.rl.sampler"


class Use(NamedTuple):
    """Seconds so far, and when.

    Attributes:
      now: by a clock that never goes back.
      used: processor time of this process and its living children.
      wanted: the same and the time their threads were ready to run and had no processor.
      sampling: processor time of the samplers alone.
    """

    now: float
    used: float
    wanted: float
    sampling: float


class ProcessorMeter:
    """The use of processors while a learner learns; it observes a training (see `train_host`).

    It counts from the end of the learner's first call, which compiles.
    """

    def __init__(self):
        self._looks: list[Use] = []

    def look(self, kind: str, start: float, end: float) -> None:
        """Observes."""
        if kind == "update" and (len(self._looks) < 2 or end >= self._looks[-1].now + 0.5):
            self._looks = [*self._looks[:1], read_use()]

    def shares(self) -> dict[str, float]:
        """`use` and `demand`, shares of the processors' time, and `sampler_s`, seconds.

        Not numbers where the system does not say, or nothing was learned.
        """
        if len(self._looks) < 2:
            return dict.fromkeys(("use", "demand", "sampler_s"), float("nan"))
        first, last = self._looks
        seconds = (last.now - first.now) * processor_count()
        return {
            "use": (last.used - first.used) / seconds,
            "demand": (last.wanted - first.wanted) / seconds,
            "sampler_s": (last.sampling - first.sampling) / (last.now - first.now),
        }


def read_use() -> Use:
    """Now; not numbers without /proc."""
    if not (_PROC / "self" / "schedstat").exists():
        return Use(time.monotonic(), *3 * [float("nan")])
    used = wanted = sampling = 0.0
    for pid in (os.getpid(), *_children()):
        ran, waited = _thread_seconds(pid)
        used, wanted = used + ran, wanted + ran + waited
        if _SAMPLER in _read(_PROC / str(pid) / "cmdline"):
            sampling += ran
    return Use(time.monotonic(), used, wanted, sampling)


def _children() -> list[int]:
    found = []
    for file in _PROC.glob("[0-9]*/stat"):
        # The name, which may hold anything, ends with the last bracket.
        fields = _read(file).rpartition(b")")[2].split()
        if fields and int(fields[1]) == os.getpid():
            found.append(int(file.parent.name))
    return found


def _thread_seconds(pid: int) -> tuple[float, float]:
    """(running, ready and waiting for a processor), over the threads that live."""
    stats = [_read(file).split() for file in _PROC.glob(f"{pid}/task/*/schedstat")]
    times = [(int(x[0]), int(x[1])) for x in stats if x]
    return sum(x for x, _ in times) / 1e9, sum(x for _, x in times) / 1e9


def _read(file: Path) -> bytes:
    """What it holds; nothing once the process has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
