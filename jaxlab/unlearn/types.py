"""Batches, states and results that several files of the room share."""

from typing import Any, NamedTuple

import jax
import numpy as np


class LMBatch(NamedTuple):
    """Rows of text with what of them is scored.

    Attributes:
      tokens: `[B, T]` int32.
      labels: `[B, T]` int32, the token itself where it is scored and -100 elsewhere.
    """

    tokens: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


class UnlearnBatch(NamedTuple):
    """What one step of unlearning sees.

    Attributes:
      forget: rows to forget.
      retain: rows to keep, or None.
      idk: refusals to the questions of `forget`, row by row, or None.
      ref_forget_logp: `[B]` log-probabilities of the forget answers under the reference model,
        nats, or None.
      ref_idk_logp: `[B]` the same of the refusals, or None.
    """

    forget: LMBatch
    retain: LMBatch | Any = None
    idk: LMBatch | Any = None
    ref_forget_logp: jax.Array | None = None
    ref_idk_logp: jax.Array | None = None


class UnlearnState(NamedTuple):
    """What a step carries: parameters, optimizer state, and the number of steps taken."""

    params: Any
    opt_state: Any
    step: jax.Array


class UnlearnResult(NamedTuple):
    """What `unlearn` and `relearn` return.

    Attributes:
      params: the parameters after the last step.
      history: `[num_steps]` float32 under `loss`, `forget_loss`, `retain_loss`, `forget_logp`
        (mean log-probability of the forget answers, nats) and `grad_norm`, before each update.
    """

    params: Any
    history: dict[str, jax.Array]
