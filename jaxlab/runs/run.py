"""The directory of one run: what it was asked, what it measured, what it drew."""

import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import jax

from jaxlab.runs import atomic, metrics, results
from jaxlab.runs.claims import Claim, write_claims
from jaxlab.runs.environment import describe_environment
from jaxlab.runs.wandb_log import WandbLog, require_wandb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDERS = ("tensorboard", "figures", "checkpoints", "results", "artifacts")
_SECONDS = "seconds.json"
# The record last: by it a run is known that was half removed, and the next --overwrite goes on.
_FILES = ("metrics.jsonl", "claims.json", "summary.json", _SECONDS, "config.json")


class WorkdirError(ValueError):
    """A directory that this run cannot use; the message says what to do."""


class Run:
    """Creates or continues the run in `workdir`.

    ```
    workdir/
      config.json    config fields, preset, versions, device, git revision
      metrics.jsonl  one line a step, and the same in tensorboard/
      figures/       PNG files
      checkpoints/   see `save_checkpoint`
      results/       finished phases, see `once`
      artifacts/     whatever else the experiment writes
      claims.json    the claims and what was measured
      seconds.json   the time that its processes took, but for those that were killed
    ```
    A directory that holds a run with the same config fields is continued; a new commit or another
    version of jax does not count. With several processes, process 0 alone writes.

    Args:
      workdir: created if it is missing.
      config: a dataclass instance, a dict, or None for no settings.
      overwrite: removes a run that is already there, and only what a run writes.
      preset: name that the config started from, for the record.
      wandb: project at Weights & Biases that scalars are sent to, too, by the package wandb.

    Raises:
      WorkdirError: the directory holds a run with other config fields, or another process is
        writing to it.
      ImportError, ValueError: Weights & Biases cannot be used.
      OSError: the directory cannot be created or written, or what `overwrite` removes cannot be.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        config: Any = None,
        *,
        overwrite: bool = False,
        preset: str | None = None,
        wandb: str | None = None,
    ):
        self.workdir = Path(workdir)
        self.config = config
        self.preset = preset
        self._writes = jax.process_index() == 0
        self._metrics: metrics.MetricsLog | None = None
        self._wandb: WandbLog | None = None
        if self._writes:
            if wandb:
                require_wandb()  # before anything is removed
            self._claim_workdir(overwrite, wandb)

    def _claim_workdir(self, overwrite: bool, wandb: str | None) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        # The same process may open its own run again (to look at it, or in a test).
        self._lock = filelock.FileLock(
            self.workdir / ".lock", timeout=0, thread_local=False, is_singleton=True
        )
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise WorkdirError(
                f"another process is writing to {self.workdir}; wait for it or choose another "
                "workdir"
            ) from None
        try:
            self._open(overwrite, wandb)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, overwrite: bool, wandb: str | None) -> None:
        record = self.workdir / "config.json"
        fields = _fields(self.config)
        if overwrite and record.exists():
            self._clear()
        if record.exists():
            self._check_same(record, fields)
        else:
            atomic.write_json(
                record,
                {
                    "config": fields,
                    "preset": self.preset,
                    "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    **describe_environment(),
                },
            )
        self._metrics = metrics.MetricsLog(self.workdir)
        if wandb:
            self._wandb = WandbLog(wandb, self.workdir, fields)

    def _check_same(self, record: Path, fields: Any) -> None:
        try:
            before = json.loads(record.read_text("utf-8"))["config"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise WorkdirError(
                f"{record} is not the record of a run ({error}); choose another workdir"
            ) from error
        if before == fields:
            return
        raise WorkdirError(
            f"{self.workdir} holds a run with other settings ({_difference(before, fields)}); "
            "choose another --workdir, or --overwrite to replace it"
        )

    def _clear(self) -> None:
        for name in _FOLDERS:
            # Whatever else stays there would be read as the new run's.
            if os.path.lexists(self.workdir / name):
                shutil.rmtree(self.workdir / name)
        for name in _FILES:
            (self.workdir / name).unlink(missing_ok=True)

    def log(self, step: int, **scalars: Any) -> None:
        """Appends scalars at `step` to metrics.jsonl, TensorBoard events, and what `wandb` asks."""
        if self._writes:
            if self._metrics is None:
                raise ValueError(f"the run in {self.workdir} is closed: log before `close`")
            row = self._metrics.log(step, **scalars)
            if self._wandb is not None:
                self._wandb.log(row)

    def metrics(self) -> list[dict[str, Any]]:
        """What was logged, one dict a step; of a repeated step the later line counts."""
        return metrics.read_metrics(self.workdir / "metrics.jsonl")

    def once(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a phase, computed at most once in the life of the run.

        See `results.once`; it is stored as `results/NAME.npz`. With several processes every one
        computes, since the phase may be collective.
        """
        path = self.workdir / "results" / f"{name}.npz"
        return results.once(path, compute, store=self._writes)

    def figure(self, name: str, figure: "Figure") -> Path:
        """Writes `figures/NAME.png` and returns its path."""
        from jaxlab.runs import figures

        path = self.workdir / "figures" / f"{name}.png"
        return atomic.write_bytes(path, figures.png(figure)) if self._writes else path

    def checkpoint_dir(self, name: str = "") -> Path:
        """Folder for `save_checkpoint` and `restore_checkpoint`, one per trained thing."""
        return self.workdir / "checkpoints" / name

    def write_claims(self, claims: Iterable[Claim]) -> list[Claim]:
        """Writes claims.json and returns the claims as a list."""
        claims = list(claims)
        return write_claims(self.workdir / "claims.json", claims) if self._writes else claims

    def write_json(self, name: str, value: Any) -> Path:
        """Writes `artifacts/NAME` as JSON."""
        path = self.workdir / "artifacts" / name
        return atomic.write_json(path, value) if self._writes else path

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Writes `artifacts/NAME` as it is."""
        path = self.workdir / "artifacts" / name
        return atomic.write_bytes(path, content) if self._writes else path

    def write_text(self, name: str, text: str) -> Path:
        """Writes `artifacts/NAME` as UTF-8 text."""
        path = self.workdir / "artifacts" / name
        return atomic.write_text(path, text) if self._writes else path

    def add_seconds(self, seconds: float) -> float:
        """Adds to the time that this run has taken in all its processes, and returns the sum.

        A process that is killed before it gets here adds nothing.
        """
        # A run that was finished before the time had a file of its own has it in its summary.
        files = (self.workdir / name for name in (_SECONDS, "summary.json"))
        known: dict[str, Any] = next(
            (json.loads(f.read_text("utf-8")) for f in files if f.exists()), {}
        )
        total = known.get("wall_seconds", 0.0) + seconds
        if self._writes:
            atomic.write_json(self.workdir / _SECONDS, {"wall_seconds": total})
        return total

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json: how the run was started and how long it took."""
        if self._writes:
            atomic.write_json(self.workdir / "summary.json", summary)

    def close(self, failed: bool = False) -> None:
        """Closes the files and lets another process write here; may be called twice.

        Args:
          failed: what Weights & Biases is told of how it ended.
        """
        log, self._metrics = self._metrics, None
        mirror, self._wandb = self._wandb, None
        try:
            if log is not None:
                log.close()
        finally:
            if log is not None:
                self._lock.release()
            if mirror is not None:
                mirror.close(failed)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)


def _fields(config: Any) -> Any:
    """The config as JSON gives it back, so that tuples and lists compare equal."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    return json.loads(json.dumps(config, default=atomic.plain))


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{before!r} there, {now!r} here"
    names = [name for name in now.keys() | before.keys() if before.get(name) != now.get(name)]
    return ", ".join(
        f"{name}: {before.get(name)!r} there, {now.get(name)!r} here" for name in sorted(names)
    )
