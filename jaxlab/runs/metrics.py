"""Scalars over steps: one JSON line each, and TensorBoard events."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from jaxlab.runs import atomic


class MetricsLog:
    """Appends `{"step": ..., name: value}` lines to `metrics.jsonl`, flushed line by line.

    The same scalars go to TensorBoard events in `directory/tensorboard`.
    """

    def __init__(self, directory: str | os.PathLike):
        self._path = Path(directory) / "metrics.jsonl"
        self._events = Path(directory) / "tensorboard"
        _drop_torn_line(self._path)
        self._open_files: tuple[TextIO, Any] | None = None

    def log(self, step: int, **scalars: Any) -> dict[str, int | float]:
        """Appends one line.

        Args:
          step: position on the metric's axis, an integer.
          **scalars: numbers or zero-dimensional arrays.

        Returns:
          What the line holds.

        Raises:
          ValueError: a value that is not a scalar.
          OSError: what was logged before could not be written.
        """
        row = {"step": int(step)} | {name: _scalar(name, value) for name, value in scalars.items()}
        lines, events = self._open_files or self._open()
        if not _is_written(events):
            raise OSError(f"events cannot be written to {self._events}: is the disk full?")
        lines.write(json.dumps(row) + "\n")
        lines.flush()
        for name in scalars:
            events.add_scalar(name, row[name], row["step"])
        return row

    def _open(self) -> tuple[TextIO, Any]:
        # tensorboardX costs an import of protobuf: only a run that logs pays for it.
        from tensorboardX import SummaryWriter

        lines = open(self._path, "a", encoding="utf-8")
        # The file's name holds the second only: a quick restart would overwrite it.
        starts = len(list(self._events.glob("events.*")))
        events = SummaryWriter(
            str(self._events), flush_secs=10, filename_suffix=f".{os.getpid()}.{starts}"
        )
        self._open_files = lines, events
        return self._open_files

    def close(self) -> None:
        """Flushes and closes the files; `log` opens them again."""
        if self._open_files is not None:
            for file in self._open_files:
                file.close()
            self._open_files = None


def _is_written(events: Any) -> bool:
    """Whether the thread that writes events is alive: without it, they block once a queue is full.

    tensorboardX has no public word for it.
    """
    worker = getattr(events.file_writer.event_writer, "_worker", None)
    return worker is None or worker.is_alive()


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`, merged by step in order of first appearance.

    A run that was killed and resumed repeats the lines since its last checkpoint: the later line
    wins. A torn last line is dropped. A missing file has no rows.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows: dict[int, dict[str, Any]] = {}
    for line in _whole_lines(path.read_bytes()).splitlines():
        row = json.loads(line)
        rows.setdefault(row["step"], {}).update(row)
    return list(rows.values())


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = _whole_lines(content)
        if whole != content:
            atomic.write_bytes(path, whole)


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _scalar(name: str, value: Any) -> int | float:
    if getattr(value, "ndim", 0) != 0:
        raise ValueError(f"metric {name!r} must be a scalar, got shape {value.shape}")
    return value if isinstance(value, int) else float(value)
