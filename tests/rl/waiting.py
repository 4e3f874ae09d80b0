"""Waits for an event: a loaded machine takes its time to start a process."""

import time

DEADLINE_S = 240


def wait_until(happened, seconds=DEADLINE_S, alive=lambda: None, pause=0.02):
    """Returns once `happened()`; `alive()` is called meanwhile and may raise."""
    deadline = time.monotonic() + seconds
    while not happened():
        alive()
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(pause)
