"""The actor without jax, for processes that must start at once and use one thread."""

from typing import Any

import numpy as np


def numpy_actor(
    params: dict[str, Any],
    obs: np.ndarray,
    log_std_min: float = -20.0,
    log_std_max: float = 2.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and clipped log standard deviation `[B, A]` of obs `[B, O]`, as `actor_apply`."""
    x = obs
    for i in range(sum(name.startswith("Dense_") for name in params)):
        x = np.maximum(_dense(params[f"Dense_{i}"], x), 0)
    log_std = np.clip(_dense(params["log_std"], x), log_std_min, log_std_max)
    return _dense(params["mean"], x), log_std


def numpy_act(
    params: dict[str, Any], obs: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Actions `[B, A]`, float32: drawn with `rng`, the squashed mean without."""
    mean, log_std = numpy_actor(params, obs)
    if rng is not None:
        mean = mean + np.exp(log_std) * rng.standard_normal(mean.shape, np.float32)
    return np.tanh(mean)


def _dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]
