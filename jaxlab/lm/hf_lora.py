"""Reading LoRA adapters as PEFT writes them: adapter_config.json, adapter_model.safetensors."""

import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxlab.lm.config import LMConfig
from jaxlab.lm.hf_weights import weight_map
from jaxlab.lm.lora import Lora
from jaxlab.user_files import read_json

_PREFIX = "base_model.model."
# What changes the meaning of an adapter and is not implemented, with the value that is.
_PLAIN = {
    "use_dora": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}


def load_lora(path: str | os.PathLike, cfg: LMConfig) -> Lora:
    """The adapter of a PEFT folder for the model `cfg`; layers it leaves alone get zeros.

    A fused target (c_attn, query_key_value, qkv_proj, gate_up_proj) becomes one adapter per
    weight that it holds. Raises FileNotFoundError for a missing file, ValueError for a kind of
    adapter that is not plain LoRA or a truncated file, and KeyError when it adapts nothing of this
    model or one half of an adapter is missing.
    """
    folder = Path(path)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} at {folder / name}")
    config = read_json(folder / "adapter_config.json")
    _check_plain(config)
    file = folder / "adapter_model.safetensors"
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} cannot be read: {error}; it is truncated or foreign") from error
    rank = int(config["r"])
    layers = {}
    for weight in weight_map(cfg):
        if weight.path[0] != "layers" or len(weight.shape) != 3:
            continue
        modules = [_PREFIX + name.removesuffix(".weight") for name in weight.names]
        pairs = [
            (tensors.get(f"{module}.lora_A.weight"), tensors.get(f"{module}.lora_B.weight"))
            for module in modules
        ]
        if all(a is None and b is None for a, b in pairs):
            continue
        rows = slice(None) if weight.rows is None else weight.rows
        n_layers, n_in, n_out = weight.shape
        a, b = np.zeros((n_layers, n_in, rank), np.float32), np.zeros((n_layers, rank, n_out))
        for layer, (file_a, file_b) in enumerate(pairs):
            if file_a is not None and file_b is not None:
                a[layer], b[layer] = file_a.T, file_b[rows].T
            elif file_a is not None or file_b is not None:
                missing = "lora_A" if file_a is None else "lora_B"
                raise KeyError(f"{file} has one half of an adapter: no {modules[layer]}.{missing}")
        _, group, name = weight.path
        layers.setdefault(group, {})[name] = {
            "a": jnp.asarray(a),
            "b": jnp.asarray(b, jnp.float32),
        }
    if not layers:
        raise KeyError(
            f"the adapter at {folder} has no tensor of a {cfg.model_type} model, such as "
            f"{_PREFIX}{weight_map(cfg)[0].names[0]}"
        )
    root = math.sqrt(rank) if config.get("use_rslora") else rank
    return Lora(layers, float(config["lora_alpha"]) / root)


def _check_plain(config: dict):
    for key, plain in _PLAIN.items():
        if (config.get(key) or plain) != plain:
            raise ValueError(
                f"adapter with {key}={config[key]!r} is not supported; supported: {key}={plain!r}"
            )
