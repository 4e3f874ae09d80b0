"""Several updates fused into one program."""

from collections.abc import Callable
from typing import Any

import jax

from jaxlab.rl.transition import Transition


def scan_updates(
    update: Callable[[jax.Array, Any, Transition], tuple[Any, Any]],
    key: jax.Array,
    state: Any,
    batches: Transition,
) -> tuple[Any, Any]:
    """One update after the other, the i-th of U with `split(key, U)[i]`.

    Args:
      update: (key, state, batch) to (state, metrics).
      batches: leaves `[U, B, ...]`.

    Returns:
      The last state, and the metrics of all updates `[U]`.
    """

    def step(state, inputs):
        key, batch = inputs
        return update(key, state, batch)

    return jax.lax.scan(step, state, (jax.random.split(key, len(batches.reward)), batches))
