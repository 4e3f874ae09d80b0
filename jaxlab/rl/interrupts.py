"""Signals that end a training: taken note of until it is at a place where it can be saved."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; it takes effect at the context's end.

    Learners donate their buffers: an exception at any moment could find a state that is gone. A
    second signal does not wait. Outside the main thread, which alone receives signals, nothing is
    deferred.

    Raises:
      KeyboardInterrupt, SystemExit: at the end, by the signal that came.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number, frame):
        if received:
            _take_effect(number)
        received.append(number)
        print("ends at the next safe place; a second signal does not wait", file=sys.stderr)

    heeded = [x for x in _SIGNALS if signal.getsignal(x) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if received:
        _take_effect(received[0])


def _take_effect(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
