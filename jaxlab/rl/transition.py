"""What a step of an environment leaves behind; free of jax, for the samplers."""

import statistics
from typing import Any, NamedTuple


class Transition(NamedTuple):
    """A batch of steps, float32.

    Attributes:
      obs: `[B, O]` what the action was chosen on.
      action: `[B, A]` in [-1, 1].
      reward: `[B]`.
      next_obs: `[B, O]` the true successor, also where an episode ended.
      terminated: `[B]` 1 where the successor is a terminal state; a time limit is not one.
    """

    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    terminated: Any


def check_transition(batch: Transition, obs_dim: int, act_dim: int) -> int:
    """The number of rows of `batch`.

    Raises:
      ValueError: a field of another shape than `[B, ...]`, named with what it should be; B is what
        most fields have.
    """
    rows = batch.reward.shape[0] if batch.reward.ndim else 0
    if _shapes(batch) != _expected(rows, obs_dim, act_dim):
        rows = statistics.mode(shape[0] if shape else 0 for shape in _shapes(batch))
        wanted = _expected(rows, obs_dim, act_dim)
        for name, shape, want in zip(Transition._fields, _shapes(batch), wanted, strict=True):
            if shape != want:
                raise ValueError(f"batch.{name} has shape {shape}, expected {want}")
    return rows


def _shapes(batch: Transition) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(array.shape) for array in batch)


def _expected(rows: int, obs_dim: int, act_dim: int) -> tuple[tuple[int, ...], ...]:
    return (rows, obs_dim), (rows, act_dim), (rows,), (rows, obs_dim), (rows,)
