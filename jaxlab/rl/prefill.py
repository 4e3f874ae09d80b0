"""Transitions from a file, to fill the ring with before training."""

from os import PathLike

import numpy as np

from jaxlab.rl.shared_replay import ReplaySpec, SharedReplay
from jaxlab.rl.transition import Transition, check_transition


def read_transitions(path: str | PathLike, obs_dim: int, act_dim: int) -> Transition:
    """The rows of an `.npz` file with the fields of `Transition`, float32.

    Where it holds `action_low` and `action_high` `[A]`, its actions are in the environment's units
    and are scaled to [-1, 1]; else they must lie there already.

    Raises:
      ValueError: a field that is missing, of another shape, or not finite; actions out of range.
    """
    with np.load(path) as file:
        missing = [name for name in Transition._fields if name not in file]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(file.files)}")
        rows = Transition(*(np.asarray(file[name], np.float32) for name in Transition._fields))
        bounds = [file[name] for name in ("action_low", "action_high") if name in file]
    check_transition(rows, obs_dim, act_dim)
    for name, array in zip(Transition._fields, rows, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} holds values that are not finite")
    if len(bounds) == 2:
        low, high = bounds
        rows = rows._replace(action=np.float32(2 * (rows.action - low) / (high - low) - 1))
    largest = np.abs(rows.action).max(initial=0)
    if largest > 1 + 1e-5:
        raise ValueError(
            f"{path}: actions must lie in [-1, 1], the largest is {largest}; give action_low and "
            "action_high"
        )
    return rows


def filled_ring(spec: ReplaySpec, rows: Transition) -> dict[str, np.ndarray]:
    """The contents (`SharedReplay.state_dict`) of a ring that holds the newest of `rows`."""
    count = min(len(rows.reward), spec.capacity)
    with SharedReplay.create(spec) as ring:
        shares = np.array_split(
            np.arange(len(rows.reward) - count, len(rows.reward)), spec.n_writers
        )
        for writer, index in enumerate(shares):
            ring.write(writer, Transition(*(array[index] for array in rows)))
        return ring.state_dict()
