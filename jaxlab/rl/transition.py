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
    rows = statistics.mode(array.shape[0] if array.ndim else 0 for array in batch)
    expected = Transition((rows, obs_dim), (rows, act_dim), (rows,), (rows, obs_dim), (rows,))
    for name, array, shape in zip(Transition._fields, batch, expected, strict=True):
        if tuple(array.shape) != shape:
            raise ValueError(f"batch.{name} has shape {tuple(array.shape)}, expected {shape}")
    return rows
