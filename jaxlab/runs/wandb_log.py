"""The scalars of a run sent to Weights & Biases, beside its own files."""

import contextlib
import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any


class WandbLog:
    """Starts the run of a workdir at Weights & Biases, or goes on with it.

    What it writes locally lies in `workdir/artifacts/wandb`; with `WANDB_MODE=offline` in the
    environment that is all, for `wandb sync`.

    Args:
      project: its name there.
      workdir: of the run, which holds its `config.json`.
      config: settings, as JSON has them.

    Raises:
      ImportError: wandb is not installed.
      ValueError: Weights & Biases does not accept the run, with its reason.
    """

    def __init__(self, project: str, workdir: Path, config: Any):
        wandb = require_wandb()
        folder = workdir / "artifacts"
        folder.mkdir(exist_ok=True)
        try:
            self._run = wandb.init(
                project=project,
                name=str(workdir),
                id=_identity(workdir),
                resume="allow",
                dir=folder,
                config=config if isinstance(config, dict) else None,
            )
        except wandb.Error as error:
            raise ValueError(f"--wandb={project}: {error}") from error
        # A run that goes on from a checkpoint repeats steps, which its own count does not allow.
        self._run.define_metric("*", step_metric="step")

    def log(self, row: dict[str, int | float]) -> None:
        """Sends a line of `metrics.jsonl`."""
        self._run.log(row)

    def close(self, failed: bool = False) -> None:
        """Waits until everything is sent."""
        self._run.finish(exit_code=int(failed))


def require_wandb() -> ModuleType:
    """The package. Raises ImportError where it is not installed, with what to do."""
    with contextlib.suppress(ImportError):
        wandb = importlib.import_module("wandb")
        if hasattr(wandb, "init"):  # a folder of that name can be imported, too
            return wandb
    raise ImportError("--wandb needs wandb: pip install jaxlab[wandb]")


def _identity(workdir: Path) -> str:
    """The same for a run that goes on, another for one that replaces it."""
    record = (workdir / "config.json").read_bytes()
    return hashlib.sha256(str(workdir.resolve()).encode() + record).hexdigest()[:16]
