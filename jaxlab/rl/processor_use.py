"""How busy the processors of this machine are."""

from pathlib import Path

_STAT = Path("/proc/stat")


class ProcessorUse:
    """The share of all processors' time that was used between two looks."""

    def __init__(self):
        self._last = _times()

    def look(self) -> float | None:
        """The share in [0, 1] since the last look; None where the system does not say."""
        last, self._last = self._last, _times()
        if last is None or self._last is None or self._last[1] <= last[1]:
            return None
        return 1 - (self._last[0] - last[0]) / (self._last[1] - last[1])


def _times() -> tuple[int, int] | None:
    """(idle, all) ticks since the machine started, of all processors together."""
    if not _STAT.exists():
        return None
    user, nice, system, idle, waiting, *rest = map(
        int, _STAT.read_text().split("\n")[0].split()[1:]
    )
    # The last two are counted in `user` and `nice` already.
    return idle + waiting, user + nice + system + idle + waiting + sum(rest[:3])
