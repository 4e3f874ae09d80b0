"""Processes that run one module of this package, without jax and on one thread each.

`multiprocessing` would import the parent's main module in every child, and with it jax: seconds
instead of a third of one.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jaxlab

# Environment variables that keep a child's linear algebra to one thread.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ChildProcess:
    """A running `python -m MODULE` that reads `settings`, pickled, from its standard input.

    What it writes to standard output is `stdout`, for somebody here to read; its errors are kept
    for `last_error`.

    Args:
      module: the module's full name.
      settings: what `read_settings` gives the child; picklable.
      heard: False where nobody reads `stdout`: what it writes there is kept with its errors, and
        `stdout` is None.
    """

    def __init__(self, module: str, settings: Any, *, heard: bool = True):
        # The file outlives this call: a child writes to it until it ends.
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            # Unbuffered, so that what it printed comes before the error that ended it.
            [sys.executable, "-u", "-m", module],
            stdin=subprocess.PIPE,
            # A pipe that nobody reads fills, and then blocks whoever prints.
            stdout=subprocess.PIPE if heard else self._errors,
            stderr=self._errors,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": child_path()},
            process_group=0,  # an interrupt from the keyboard is the parent's to answer
        )
        self.stdout: Any = self._process.stdout
        stdin: Any = self._process.stdin
        try:
            with stdin:
                stdin.write(pickle.dumps(settings))
        except BrokenPipeError:
            pass  # it died at once; `exit_code` says so

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def last_error(self) -> str:
        """The end of what it wrote to standard error, and to a `stdout` that is not heard."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:].strip()

    def end(self, timeout: float) -> None:
        """`finish`, and `close`."""
        self.finish(timeout)
        self.close()

    def finish(self, timeout: float) -> None:
        """Waits for it to end, then terminates, then kills it."""
        for insist in (lambda: None, self._process.terminate, self._process.kill):
            insist()
            try:
                self._process.wait(timeout)
                break
            except subprocess.TimeoutExpired:
                continue

    def close(self) -> None:
        """Lets go of its files; nobody may read them at that time."""
        if self.stdout is not None:
            self.stdout.close()
        self._errors.close()


def child_path() -> str:
    """The `PYTHONPATH` under which a child finds this package, wherever it was imported from."""
    package = str(Path(jaxlab.__file__).parent.parent)
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])


def read_settings() -> Any:
    """What the parent sent, in the child."""
    return pickle.load(sys.stdin.buffer)
