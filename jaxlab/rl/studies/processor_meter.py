"""How busy a training keeps the processors, from /proc: its own process and its children."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from jaxlab.runs.environment import processor_count

_PROC = Path("/proc")
_SAMPLER = b"jaxlab.rl.sampler"


class ThreadTime(NamedTuple):
    """Seconds of one thread so far: running, ready without a processor; whether a sampler's."""

    ran: float
    waited: float
    samples: bool


class Look(NamedTuple):
    """The threads of this process and its children that live, by their ids, and when.

    Attributes:
      now: by a clock that never goes back.
      threads: empty without /proc.
    """

    now: float
    threads: dict[int, ThreadTime]


class Spent(NamedTuple):
    """Seconds between two looks.

    Attributes:
      passed: by the clock.
      used: processor time.
      wanted: the same and the time threads were ready to run and had no processor.
      sampling: processor time of the samplers alone.
    """

    passed: float
    used: float
    wanted: float
    sampling: float


class ProcessorMeter:
    """The use of processors while a learner learns; it observes a training (see `train_host`).

    It counts from the end of the learner's first call, which compiles.
    """

    def __init__(self):
        self._looks: list[Look] = []

    def look(self, kind: str, start: float, end: float) -> None:
        """Observes."""
        if kind == "update" and (len(self._looks) < 2 or end >= self._looks[-1].now + 0.5):
            self._looks = [*self._looks[:1], take_look()]

    def shares(self) -> dict[str, float]:
        """`use` and `demand`, shares of the processors' time, and `sampler_s`, seconds.

        Not numbers where the system does not say, or nothing was learned.
        """
        if len(self._looks) < 2 or not self._looks[0].threads:
            return dict.fromkeys(("use", "demand", "sampler_s"), float("nan"))
        spent = spent_between(*self._looks)
        seconds = spent.passed * processor_count()
        return {
            "use": spent.used / seconds,
            "demand": spent.wanted / seconds,
            "sampler_s": spent.sampling / spent.passed,
        }


def take_look() -> Look:
    """Now."""
    threads = {}
    for pid in (os.getpid(), *_children()):
        samples = _SAMPLER in _read(_PROC / str(pid) / "cmdline")
        for file in _PROC.glob(f"{pid}/task/*/schedstat"):
            if times := _read(file).split():
                ran, waited = (int(x) / 1e9 for x in times[:2])
                threads[int(file.parent.name)] = ThreadTime(ran, waited, samples)
    return Look(time.monotonic(), threads)


def spent_between(first: Look, last: Look) -> Spent:
    """What the threads that live at the last look have spent; one that ended counts nothing."""
    used = waited = sampling = 0.0
    for thread, then in last.threads.items():
        before = first.threads.get(thread, ThreadTime(0.0, 0.0, False))
        used += then.ran - before.ran
        waited += then.waited - before.waited
        if then.samples:
            sampling += then.ran - before.ran
    return Spent(last.now - first.now, used, used + waited, sampling)


def _children() -> list[int]:
    found = []
    for file in _PROC.glob("[0-9]*/stat"):
        # The name, which may hold anything, ends with the last bracket.
        fields = _read(file).rpartition(b")")[2].split()
        if fields and int(fields[1]) == os.getpid():
            found.append(int(file.parent.name))
    return found


def _read(file: Path) -> bytes:
    """What it holds; nothing once the process has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
