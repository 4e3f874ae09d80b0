"""Transitions from a file, to fill the ring with before training."""

from os import PathLike

import numpy as np

from jaxlab.rl.shared_replay import ReplaySpec, SharedReplay
from jaxlab.rl.transition import Transition, check_transition
from jaxlab.user_files import read_arrays

_BOUNDS = "action_low", "action_high"


def read_transitions(path: str | PathLike, obs_dim: int, act_dim: int) -> Transition:
    """The rows of an `.npz` file with the fields of `Transition`, float32.

    Where it holds `action_low` and `action_high` `[A]`, its actions are in the environment's units
    and are scaled to [-1, 1]; else they must lie there already.

    Raises:
      ValueError: a field that is missing, of another shape, or not finite; one bound without the
        other, or bounds that are not finite with low < high; actions out of range.
    """
    arrays = read_arrays(path, Transition._fields, _BOUNDS)
    rows = Transition(*(np.asarray(arrays[name], np.float32) for name in Transition._fields))
    bounds = {name: arrays[name] for name in _BOUNDS if name in arrays}
    check_transition(rows, obs_dim, act_dim)
    for name, array in zip(Transition._fields, rows, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} holds values that are not finite")
    if bounds:
        low, high = _check_bounds(path, bounds)
        rows = rows._replace(action=np.float32(2 * (rows.action - low) / (high - low) - 1))
    largest = np.abs(rows.action).max(initial=0)
    if largest > 1 + 1e-5:
        raise ValueError(
            f"{path}: actions must lie in [-1, 1], the largest is {largest}; give action_low and "
            "action_high"
        )
    return rows


def _check_bounds(path, bounds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Lower and upper ones. Raises ValueError as `read_transitions`."""
    if len(bounds) == 1:
        (alone,) = bounds
        raise ValueError(f"{path} holds {alone} alone; give both of {', '.join(_BOUNDS)}")
    for name, bound in bounds.items():
        if not np.isfinite(bound).all():
            raise ValueError(f"{path}: {name} must be finite, it is {bound}")
    low, high = bounds.values()
    if not (low < high).all():
        raise ValueError(f"{path}: action_low must be below action_high, got {low} and {high}")
    return [low, high]


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
