"""The frozen description of one decoder: sizes, norms, positions, biases, residual layout."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxlab.checks import check_at_least, check_choice

NORMS = ("rms", "layer")
POSITIONS = ("rope", "learned")
QK_NORMS = ("none", "rms", "layer")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
RESIDUALS = ("sequential", "parallel", "parallel_shared")
ROPE_KINDS = ("linear", "llama3", "yarn", "longrope")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained length; formulas in `rope.py`.

    `kind` is one of linear, llama3, yarn, longrope. `factor` is the stretch (longrope: 1 means
    max_seq_len / original_max_seq_len). `short_factor` and `long_factor` hold one divisor per
    frequency (longrope only). A field that the kind does not use is ignored.
    """

    kind: str
    factor: float = 1.0
    original_max_seq_len: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    def __post_init__(self):
        check_choice("rope_scaling.kind", self.kind, ROPE_KINDS)
        if not self.factor > 0:
            raise ValueError(f"rope_scaling.factor must be positive, got {self.factor}")
        if self.kind != "linear" and self.original_max_seq_len <= 0:
            raise ValueError(
                f"rope_scaling.original_max_seq_len must be positive for kind {self.kind!r}, "
                f"got {self.original_max_seq_len}"
            )
        for name in ("short_factor", "long_factor"):
            object.__setattr__(self, name, tuple(float(f) for f in getattr(self, name)))


@dataclasses.dataclass(frozen=True)
class LMConfig:
    """A decoder-only language model; hashable, so that it can be a static argument of `jax.jit`.

    Sizes: `d_model` D, `n_layers` L, `n_heads` H, `n_kv_heads` K (K divides H), `head_dim` d,
    `d_ff` F, `vocab_size` V. `windows` is () or one sliding-window width per layer (0 = full
    attention). `token_shift` = n adds embeddings of the n previous tokens to each input
    embedding. `num_labels` > 0 makes a sequence classifier: a score head instead of logits.
    `hf_json` is the config.json that the model came from, kept so that unknown keys survive
    saving; it takes no part in comparison. Raises ValueError that names the field.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    max_seq_len: int
    norm: str = "rms"
    norm_eps: float = 1e-5
    position: str = "rope"
    rope_theta: float = 1e4
    rope_fraction: float = 1.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: str = "none"
    activation: str = "silu"
    gated: bool = True
    residual: str = "sequential"
    tie_embeddings: bool = False
    token_shift: int = 0
    windows: tuple[int, ...] = ()
    init_std: float = 0.02
    num_labels: int = 0
    model_type: str = "llama"
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    hf_json: str = dataclasses.field(default="", compare=False, repr=False)

    def __post_init__(self):
        for name in _SIZES:
            _require_int(name, getattr(self, name), minimum=1)
        for name in ("token_shift", "num_labels"):
            _require_int(name, getattr(self, name), minimum=0)
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("norm_eps", "rope_theta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        check_at_least("init_std", self.init_std, 0)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads must divide n_heads, got n_kv_heads {self.n_kv_heads} "
                f"and n_heads {self.n_heads}"
            )
        if not isinstance(self.windows, Iterable):
            raise ValueError(f"windows must hold one entry per layer, got {self.windows!r}")
        object.__setattr__(self, "windows", tuple(int(w) for w in self.windows))
        object.__setattr__(self, "eos_ids", stop_tokens(self.eos_ids))
        if len(self.windows) not in (0, self.n_layers):
            raise ValueError(
                f"windows must be empty or have one entry per layer ({self.n_layers}), "
                f"got {len(self.windows)}"
            )
        if any(w < 0 for w in self.windows):
            raise ValueError(f"windows must not be negative (0 = full), got {self.windows}")
        if self.position == "rope":
            self._check_rope()

    def _check_rope(self):
        if not 0 < self.rope_fraction <= 1 or self.n_frequencies < 1:
            raise ValueError(
                f"rope_fraction must be in (0, 1] and rotate at least one component, "
                f"got {self.rope_fraction} of head_dim {self.head_dim}"
            )
        if 2 * self.n_frequencies > self.head_dim:
            raise ValueError(
                f"head_dim {self.head_dim} with rope_fraction {self.rope_fraction} would rotate "
                f"{2 * self.n_frequencies} components; use an even head_dim or a smaller fraction"
            )
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "longrope":
            for name in ("short_factor", "long_factor"):
                if len(getattr(scaling, name)) != self.n_frequencies:
                    raise ValueError(
                        f"rope_scaling.{name} needs one entry per frequency "
                        f"({self.n_frequencies}), got {len(getattr(scaling, name))}"
                    )

    @property
    def rotary_dim(self) -> int:
        """r, the nominal number of rotated components of a head."""
        return int(self.head_dim * self.rope_fraction)

    @property
    def n_frequencies(self) -> int:
        """ceil(r / 2), the number of rotated pairs of a head (odd r: r + 1 components rotate)."""
        return math.ceil(self.rotary_dim / 2)


_SIZES = (
    "vocab_size",
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_ff",
    "max_seq_len",
)
_CHOICES = {
    "norm": NORMS,
    "position": POSITIONS,
    "qk_norm": QK_NORMS,
    "activation": ACTIVATIONS,
    "residual": RESIDUALS,
}


def _require_int(name: str, value, *, minimum: int):
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")


def stop_tokens(eos_ids: Any) -> tuple[int, ...]:
    """Stop tokens, one id, several or None, as a hashable tuple of Python ints."""
    if eos_ids is None:
        return ()
    if hasattr(eos_ids, "__index__") and np.ndim(eos_ids) == 0:
        return (int(eos_ids),)
    return tuple(int(token) for token in eos_ids)
