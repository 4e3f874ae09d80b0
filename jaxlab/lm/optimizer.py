"""AdamW as language models are trained: warmup and decay, global-norm clipping, decay by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxlab.checks import check_choice

_STABLE_SHARE = 0.8  # of a wsd schedule after warmup, before it decays


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of `make_schedule` and `make_optimizer`.

    Attributes:
      peak_lr: learning rate after warmup.
      schedule: "cosine", "linear", "constant" or "wsd" (warmup, stable, decay).
      warmup_steps: steps over which the rate rises linearly to its peak.
      total_steps: step at which the rate reaches `end_lr_ratio * peak_lr` and stays.
      end_lr_ratio: final over peak learning rate.
      weight_decay: decoupled decay of the parameters whose names start with "w".
      b1, b2, eps: Adam's moments and its denominator's floor.
      clip_norm: largest global norm of a gradient; 0 is off.
    """

    peak_lr: float = 3e-4
    schedule: str = "cosine"
    warmup_steps: int = 0
    total_steps: int = 1000
    end_lr_ratio: float = 0.1
    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0

    def __post_init__(self):
        check_choice("schedule", self.schedule, _DECAYS)
        if self.total_steps <= 0 or not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(
                "need 0 <= warmup_steps <= total_steps and total_steps >= 1, got "
                f"{self.warmup_steps} and {self.total_steps}"
            )
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm must be >= 0 (0 is off), got {self.clip_norm}")


def make_schedule(config: OptimizerConfig) -> Callable[[ArrayLike], jax.Array]:
    """step (from 0) -> learning rate.

    peak * (step + 1) / warmup before `warmup_steps`; then, with x in [0, 1] the share of the
    remaining steps and r the end ratio, peak times
    cosine: r + (1 - r) (1 + cos pi x) / 2;  linear: 1 - (1 - r) x;  constant: 1;
    wsd: 1 until x = 0.8, then linearly to r.
    """
    decay = _DECAYS[config.schedule]
    warmup = config.warmup_steps

    def learning_rate(step):
        step = jnp.asarray(step, jnp.float32)
        x = jnp.clip((step - warmup) / max(config.total_steps - warmup, 1), 0, 1)
        rising = (step + 1) / max(warmup, 1)
        return config.peak_lr * jnp.where(step < warmup, rising, decay(x, config.end_lr_ratio))

    return learning_rate


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW (Loshchilov and Hutter, 2019) with the schedule.

    Only parameters whose own name starts with "w" decay: matrices and embedding tables, not
    norms, biases, shift tables or adapters. (By name, since the norms of stacked layers are 2-D.)
    """
    steps = [
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=_decays),
        optax.scale_by_learning_rate(make_schedule(config)),
    ]
    if config.clip_norm:
        steps.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*steps)


def _decays(params: Any) -> Any:
    """Tree of bools: whether a parameter's name starts with "w"."""

    def is_weight(path, _):
        key = path[-1] if path else None
        name = getattr(key, "key", getattr(key, "name", ""))
        return str(name).startswith("w")

    return jax.tree_util.tree_map_with_path(is_weight, params)


_DECAYS = {
    "cosine": lambda x, r: r + (1 - r) * (1 + jnp.cos(jnp.pi * x)) / 2,
    "linear": lambda x, r: 1 - (1 - r) * x,
    "constant": lambda x, r: jnp.ones_like(x),
    "wsd": lambda x, r: 1 - (1 - r) * jnp.clip((x - _STABLE_SHARE) / (1 - _STABLE_SHARE), 0, 1),
}
