"""Stops a training whose loss has left the finite numbers, and names what is left of it."""

import math
import os
from collections.abc import Mapping
from typing import Any

from jaxlab.runs.checkpoints import latest_step


def check_finite(
    step: int, scalars: Mapping[str, Any], checkpoints: str | os.PathLike | None = None
) -> None:
    """Lets finite numbers pass; called before a checkpoint is saved, so that the last is good.

    Args:
      step: the optimizer step by which the scalars were measured.
      scalars: losses and norms by name.
      checkpoints: folder that `save_checkpoint` writes to.

    Raises:
      FloatingPointError: a scalar that is NaN or infinite, with its name, the step, and the
        newest checkpoint.
    """
    bad = {name: float(value) for name, value in scalars.items() if not math.isfinite(value)}
    if not bad:
        return
    what = ", ".join(f"{name} is {value}" for name, value in bad.items())
    last = last_good_checkpoint(checkpoints)
    raise FloatingPointError(f"{what} at step {step}; {last}. Try a smaller learning rate")


def last_good_checkpoint(checkpoints: str | os.PathLike | None) -> str:
    """What an error says of it, by its path: of a folder that `save_checkpoint` writes to."""
    newest = None if checkpoints is None else latest_step(checkpoints)
    if checkpoints is None or newest is None:
        return "there is no earlier checkpoint"
    return f"the last good checkpoint is {os.path.join(checkpoints, str(newest))}"
