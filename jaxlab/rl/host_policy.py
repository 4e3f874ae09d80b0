"""The actor without jax, for processes that must start at once and use one thread."""

from os import PathLike
from typing import Any

import numpy as np

from jaxlab.rl.weight_board import nest
from jaxlab.user_files import read_arrays

_HEADS = {"mean", "log_std"}
_NOISE = 0.1  # standard deviation, of actions in [-1, 1]
LOG_STD_RANGE = -20.0, 2.0  # unless a config says otherwise


def numpy_actor(
    params: dict[str, Any],
    obs: np.ndarray,
    log_std_min: float = LOG_STD_RANGE[0],
    log_std_max: float = LOG_STD_RANGE[1],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and clipped log standard deviation `[B, A]` of obs `[B, O]`, as `actor_apply`."""
    x = _trunk(params, obs)
    log_std = np.clip(_dense(params["log_std"], x), log_std_min, log_std_max)
    return _dense(params["mean"], x), log_std


def load_policy(path: str | PathLike) -> dict[str, Any]:
    """The nested parameters in a `policy.npz` that training has left, for `numpy_actor`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file.
    """
    return nest({tuple(name.split("/")): array for name, array in read_arrays(path).items()})


def act_greedily(params: dict[str, Any], obs: np.ndarray) -> np.ndarray:
    """The deterministic actions `[B, A]` of a Gaussian or a deterministic actor."""
    return np.tanh(_dense(params["mean"], _trunk(params, obs)))


def log_std_range_of(config) -> tuple[float, float]:
    """A config's least and largest log standard deviation; the usual where it has none."""
    low, high = LOG_STD_RANGE
    return getattr(config, "log_std_min", low), getattr(config, "log_std_max", high)


def explore(
    params: dict[str, Any],
    obs: np.ndarray,
    rng: np.random.Generator,
    log_std_range: tuple[float, float] = LOG_STD_RANGE,
) -> np.ndarray:
    """Actions `[B, A]` to collect experience with.

    Drawn from a Gaussian actor, its log standard deviation clipped to the range; those of a
    deterministic one with normal noise, clipped.
    """
    if "log_std" in params:
        mean, log_std = numpy_actor(params, obs, *log_std_range)
        return np.tanh(mean + np.exp(log_std) * rng.standard_normal(mean.shape, np.float32))
    action = act_greedily(params, obs)
    return np.clip(action + _NOISE * rng.standard_normal(action.shape, np.float32), -1, 1)


def _trunk(params, x):
    for i in range(len(params) - len(_HEADS & params.keys())):
        x = _dense(params[f"Dense_{i}"], x)
        np.maximum(x, 0, out=x)
    return x


def _dense(layer, x):
    # Operators would give an array on the device where the parameters lie there.
    out = np.matmul(x, layer["kernel"])
    return np.add(out, layer["bias"], out=out)
