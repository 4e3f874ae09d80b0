"""The evaluator as the learner has it: a process that is watched, and what it reports."""

import json
import os
import queue
import threading
from typing import Any

from jaxlab.rl.child_process import ChildProcess
from jaxlab.rl.evaluator import EvaluatorSettings
from jaxlab.rl.recorder import RecordSettings
from jaxlab.rl.stop_words import StopWords
from jaxlab.rl.weight_board import BoardHandle

_MAX_RESTARTS = 3
_EVALUATION = {"version", "mean_return", "start", "end"}


class EvaluatorProcess:
    """Evaluates the newest policy meanwhile; a context manager.

    One that died is started again. Training needs it for the curve and for `target_return` alone,
    so it goes on without one that keeps dying.

    Args:
      board, env_id, n_episodes, seed, every_s, import_module, pictures: see `EvaluatorSettings`.
    """

    def __init__(
        self,
        board: BoardHandle,
        env_id: str,
        n_episodes: int,
        seed: int,
        every_s: float,
        import_module: str | None = None,
        pictures: RecordSettings | None = None,
    ):
        self._stop = StopWords.create(1)
        self._settings = EvaluatorSettings(
            board,
            self._stop.handle,
            env_id,
            n_episodes,
            seed,
            every_s,
            import_module,
            pictures,
            os.getpid(),
        )
        self._reports: queue.Queue = queue.Queue()
        self._deaths = 0
        self._launch()

    def pid(self) -> int | None:
        """Its process number; None where it died too often."""
        return None if self._process is None else self._process.pid

    def reports(self) -> list[dict[str, Any]]:
        """What came since the last call: evaluations, or `said`, a line for the user."""
        found = []
        while not self._reports.empty():
            found.append(self._reports.get_nowait())
        return found

    def watch(self) -> None:
        """Starts it again if it died, and reports that."""
        if self._process is None or self._process.exit_code() is None:
            return
        code, error = self._process.exit_code(), self._process.last_error()
        self._end(timeout=1.0)
        self._deaths += 1
        again = self._deaths <= _MAX_RESTARTS
        what = "training goes on without evaluations"
        if again:
            what = f"it is started again ({self._deaths} of {_MAX_RESTARTS} times)"
        said = f"the evaluator died with exit code {code}: {what}\n{error}"
        self._reports.put({"said": said.strip()})
        if again:
            self._launch()

    def close(self) -> None:
        """Ends it."""
        self._stop.raise_all()
        if self._process is not None:
            self._end(timeout=5.0)
        self._stop.close()

    def __enter__(self) -> "EvaluatorProcess":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _launch(self) -> None:
        self._process: Any = ChildProcess("jaxlab.rl.evaluator", self._settings)
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stdout,), daemon=True
        )
        self._listener.start()

    def _listen(self, lines) -> None:
        for line in lines:
            if line.endswith(b"\n"):  # one that was killed may leave half a line
                self._reports.put(_read_report(line))

    def _end(self, timeout: float) -> None:
        self._process.finish(timeout)
        self._listener.join()  # its output has ended
        self._process.close()
        self._process = None


def _read_report(line: bytes) -> dict[str, Any]:
    """An evaluation, or `said`; what an environment printed was said, too."""
    try:
        report = json.loads(line)
    except ValueError:
        report = None
    if isinstance(report, dict) and (report.keys() >= _EVALUATION or report.keys() == {"said"}):
        return report
    return {"said": line.decode(errors="replace").rstrip()}
