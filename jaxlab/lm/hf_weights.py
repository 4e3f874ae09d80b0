"""Which Hugging Face tensor, and which of its rows, each parameter of the decoder comes from."""

from typing import NamedTuple

import jax
import numpy as np

from jaxlab.lm.config import LMConfig
from jaxlab.lm.params import param_shapes


class Weight(NamedTuple):
    """One parameter as (part of) one Hugging Face tensor, or of one per layer.

    path: keys into the parameter tree. shape: of the parameter, [L, ...] if stacked.
    name: tensor name, with "{i}" for the layer if stacked. transposed: the file has [out, in].
    rows: which entries of the tensor's output axis are ours, in order (fused tensors); None: all.
    n_rows: length of that axis in the file; None: as ours.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    name: str
    transposed: bool
    rows: np.ndarray | None
    n_rows: int | None

    @property
    def stacked(self) -> bool:
        return self.path[0] == "layers"

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape of one tensor in the file."""
        *rest, n_out = self.shape[1:] if self.stacked else self.shape
        n_out = self.n_rows or n_out
        return (n_out, *rest) if self.transposed else (*rest, n_out)

    @property
    def names(self) -> list[str]:
        """The tensor names, one per layer if stacked."""
        if not self.stacked:
            return [self.name]
        return [self.name.format(i=i) for i in range(self.shape[0])]

    def from_file(self, read, index: tuple[slice, ...]) -> np.ndarray:
        """Our part `index` of one (unstacked) parameter; read(slices) gives parts of the tensor."""
        *rest, out = index
        if self.rows is None:
            found = read((out, *rest) if self.transposed else (*rest, out))
            return found.T if self.transposed else found
        rows = self.rows[out]
        first, stop = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        span = slice(first, stop)
        found = read((span, *rest) if self.transposed else (*rest, span))
        found = found.T if self.transposed else found
        return found[..., rows - first]

    def into_file(self, tensor: np.ndarray, value: np.ndarray):
        """Writes one (unstacked) parameter into its place in `tensor` of file_shape."""
        view = tensor.T if self.transposed else tensor
        view[..., slice(None) if self.rows is None else self.rows] = value


def weight_map(cfg: LMConfig) -> list[Weight]:
    """Every parameter of `cfg` with its place in a Hugging Face checkpoint of cfg.model_type."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        param_shapes(cfg), is_leaf=lambda shape: isinstance(shape, tuple)
    )
    return [_weight(cfg, tuple(key.key for key in path), shape) for path, shape in leaves]


def base_prefix(model_type: str) -> str:
    """The prefix that tensor names of the base model may lack in a checkpoint."""
    return {"gpt2": "transformer.", "gpt_neox": "gpt_neox."}.get(model_type, "model.")


def _weight(cfg, path, shape):
    *owner, leaf = path
    module = owner[-1]
    suffix = ".bias" if leaf.startswith("b") else ".weight"
    if module in ("attn", "mlp"):
        module = leaf.removeprefix("w").removeprefix("b").removeprefix("_")
    is_matrix = leaf.startswith("w") and module not in ("embed", "pos_embed")
    conv1d = cfg.model_type == "gpt2" and path[0] == "layers"
    rows, n_rows = _fused_rows(cfg, module)
    name = _MODULES[cfg.model_type] | {"score": "score"}
    return Weight(path, shape, name[module] + suffix, is_matrix and not conv1d, rows, n_rows)


def _fused_rows(cfg, module):
    """Rows of the fused qkv and gate_up tensors that belong to `module`, and how many there are."""
    if module in ("q", "k", "v") and cfg.model_type in ("gpt2", "gpt_neox", "phi3"):
        number = "qkv".index(module)
        queries, keys = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
        total = queries + 2 * keys
        if cfg.model_type == "gpt_neox":
            by_head = np.arange(total).reshape(cfg.n_heads, 3, cfg.head_dim)
            return by_head[:, number].reshape(-1), total
        ends = np.cumsum([0, queries, keys, keys])
        return np.arange(ends[number], ends[number + 1]), total
    if module in ("gate", "up") and cfg.model_type == "phi3":
        start = 0 if module == "gate" else cfg.d_ff
        return np.arange(start, start + cfg.d_ff), 2 * cfg.d_ff
    return None, None


def _llama_like(*, out="o_proj", q_norm="q_norm", k_norm="k_norm", norm="norm", **mlp):
    layer = "model.layers.{i}."
    modules = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": f"self_attn.{out}",
        "q_norm": f"self_attn.{q_norm}",
        "k_norm": f"self_attn.{k_norm}",
        "attn_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    } | {name: f"mlp.{module}" for name, module in mlp.items()}
    return {name: layer + module for name, module in modules.items()} | {
        "embed": "model.embed_tokens",
        "final_norm": f"model.{norm}",
        "head": "lm_head",
    }


_LLAMA = _llama_like(gate="gate_proj", up="up_proj", down="down_proj")
_PHI3 = _llama_like(gate="gate_up_proj", up="gate_up_proj", down="down_proj")
_QKV = ("q", "k", "v")
_MODULES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi": _llama_like(
        out="dense",
        q_norm="q_layernorm",
        k_norm="k_layernorm",
        norm="final_layernorm",
        up="fc1",
        down="fc2",
    ),
    "phi3": _PHI3 | dict.fromkeys(_QKV, "model.layers.{i}.self_attn.qkv_proj"),
    "gpt2": {
        "embed": "transformer.wte",
        "pos_embed": "transformer.wpe",
        "attn_norm": "transformer.h.{i}.ln_1",
        "mlp_norm": "transformer.h.{i}.ln_2",
        **dict.fromkeys(_QKV, "transformer.h.{i}.attn.c_attn"),
        "o": "transformer.h.{i}.attn.c_proj",
        "up": "transformer.h.{i}.mlp.c_fc",
        "down": "transformer.h.{i}.mlp.c_proj",
        "final_norm": "transformer.ln_f",
        "head": "lm_head",
    },
    "gpt_neox": {
        "embed": "gpt_neox.embed_in",
        "attn_norm": "gpt_neox.layers.{i}.input_layernorm",
        "mlp_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
        **dict.fromkeys(_QKV, "gpt_neox.layers.{i}.attention.query_key_value"),
        "o": "gpt_neox.layers.{i}.attention.dense",
        "up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
        "down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
        "final_norm": "gpt_neox.final_layer_norm",
        "head": "embed_out",
    },
}
