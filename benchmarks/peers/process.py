"""A peer in a process of its own, whose interpreter may have other packages than this one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class PeerProcess:
    """A running script of this folder that serves (see `answering`); a context manager.

    Args:
      script: its name.
      python: interpreter that has the peer; "" for this one.
      arguments: of the script.

    Raises:
      ImportError: the interpreter lacks a package that the script imports.
      RuntimeError: it ended otherwise, with the end of what it said.
    """

    def __init__(self, script: str, python: str = "", *arguments: str):
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [python or sys.executable, str(Path(__file__).with_name(script)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
        )
        try:
            self.version = self._answer()["version"]
        except Exception:
            self.close()
            raise

    def ask(self, what: str, **arguments) -> dict:
        """The answer of the script's function of that name."""
        print(json.dumps([what, arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def measure(self, what: str, **arguments) -> tuple[float, float]:
        """Wall and processor seconds that it says a function took."""
        answer = self.ask(what, **arguments)
        return answer["wall_s"], answer["cpu_s"]

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else "it said nothing"
        if last.startswith(("ModuleNotFoundError", "ImportError")):
            raise ImportError(last)
        raise RuntimeError(f"the peer ended with code {self._process.returncode}: {said[-2000:]}")
