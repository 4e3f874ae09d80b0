"""Hugging Face config.json to LMConfig and back, for eight families."""

import dataclasses
import json
from typing import Any, NamedTuple

from jaxlab.lm.config import LMConfig
from jaxlab.lm.hf_rope import rope_from_hf, rope_to_hf


class _Family(NamedTuple):
    """What a model_type fixes, and the names under which its config.json keeps the rest."""

    fixed: dict
    keys: dict
    defaults: dict


_COMMON_KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "activation": "hidden_act",
    "init_std": "initializer_range",
    "tie_embeddings": "tie_word_embeddings",
}
_RMS_KEYS = _COMMON_KEYS | {"norm_eps": "rms_norm_eps", "n_kv_heads": "num_key_value_heads"}
_LAYER_KEYS = _COMMON_KEYS | {"norm_eps": "layer_norm_eps"}
_GATED = {"norm": "rms", "gated": True, "residual": "sequential", "qk_norm": "none"}
_NO_BIAS = {"qkv_bias": False, "out_bias": False, "mlp_bias": False, "head_bias": False}
_BIASED = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": False}
_UNGATED = {"norm": "layer", "gated": False, "qk_norm": "none"}
_DEFAULTS = {"init_std": 0.02, "tie_embeddings": False, "activation": "silu"}

_FAMILIES = {
    "gpt2": _Family(
        _UNGATED | _BIASED | {"position": "learned", "residual": "sequential"},
        _COMMON_KEYS
        | {
            "d_model": "n_embd",
            "n_layers": "n_layer",
            "n_heads": "n_head",
            "d_ff": "n_inner",
            "max_seq_len": "n_positions",
            "activation": "activation_function",
            "norm_eps": "layer_norm_epsilon",
        },
        _DEFAULTS
        | {
            "tie_embeddings": True,
            "activation": "gelu_new",
            "norm_eps": 1e-5,
            "max_seq_len": 1024,
        },
    ),
    "gpt_neox": _Family(
        _UNGATED | {"mlp_bias": True, "head_bias": False},
        _LAYER_KEYS,
        _DEFAULTS | {"activation": "gelu", "norm_eps": 1e-5, "max_seq_len": 2048},
    ),
    "llama": _Family(
        _GATED | {"head_bias": False},
        _RMS_KEYS | {"mlp_bias": "mlp_bias"},
        _DEFAULTS | {"norm_eps": 1e-6, "max_seq_len": 2048, "mlp_bias": False},
    ),
    "mistral": _Family(
        _GATED | _NO_BIAS, _RMS_KEYS, _DEFAULTS | {"norm_eps": 1e-6, "max_seq_len": 131072}
    ),
    "qwen2": _Family(
        _GATED | _NO_BIAS | {"qkv_bias": True},
        _RMS_KEYS,
        _DEFAULTS | {"norm_eps": 1e-6, "max_seq_len": 32768},
    ),
    "qwen3": _Family(
        _GATED | {"qk_norm": "rms", "mlp_bias": False, "head_bias": False},
        _RMS_KEYS,
        _DEFAULTS | {"norm_eps": 1e-6, "max_seq_len": 32768},
    ),
    "phi": _Family(
        _UNGATED | _BIASED | {"head_bias": True, "residual": "parallel_shared"},
        _LAYER_KEYS | {"n_kv_heads": "num_key_value_heads"},
        _DEFAULTS | {"activation": "gelu_new", "norm_eps": 1e-5, "max_seq_len": 2048},
    ),
    "phi3": _Family(
        _GATED | _NO_BIAS, _RMS_KEYS, _DEFAULTS | {"norm_eps": 1e-5, "max_seq_len": 4096}
    ),
}
MODEL_TYPES = tuple(_FAMILIES)

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}

_ARCHITECTURES = {
    "gpt2": ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification"),
    "llama": ("LlamaForCausalLM", "LlamaForSequenceClassification"),
    "mistral": ("MistralForCausalLM", "MistralForSequenceClassification"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2ForSequenceClassification"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
    "phi": ("PhiForCausalLM", "PhiForSequenceClassification"),
    "phi3": ("Phi3ForCausalLM", "Phi3ForSequenceClassification"),
}


def config_from_hf(config: dict) -> LMConfig:
    """LMConfig of a Hugging Face config.json given as a dict.

    Raises ValueError for a model_type, activation, rotary scaling or attention variant that is
    not covered (the message lists what is), and for a size that is missing.
    """
    model_type = config.get("model_type")
    if model_type not in _FAMILIES:
        raise ValueError(
            f"model_type {model_type!r} is not supported; supported: {', '.join(MODEL_TYPES)}"
        )
    family = _FAMILIES[model_type]
    _reject_variants(config)
    fields = dict(family.fixed) | {"model_type": model_type}
    for field, key in family.keys.items():
        fields[field] = config.get(key)
        if fields[field] is None:
            fields[field] = family.defaults.get(field)
    if model_type == "gpt2" and fields["d_ff"] is None and fields["d_model"] is not None:
        fields["d_ff"] = 4 * fields["d_model"]
    if fields.get("n_kv_heads") is None:
        fields["n_kv_heads"] = fields["n_heads"]
    for field in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff"):
        if fields[field] is None:
            raise ValueError(f"config.json has no {family.keys[field]!r}, which sets {field}")
    fields["head_dim"] = config.get("head_dim") or _default_head_dim(
        model_type, fields["d_model"], fields["n_heads"]
    )
    fields["activation"] = _activation(fields["activation"])
    fields |= _biases(config, model_type)
    if model_type != "gpt2":
        fields |= {"position": "rope"} | rope_from_hf(config, model_type, fields["max_seq_len"])
    fields["windows"] = _windows(config, model_type, fields["n_layers"])
    if model_type == "gpt_neox":
        parallel = config.get("use_parallel_residual", True)
        fields["residual"] = "parallel" if parallel else "sequential"
    if model_type == "phi" and config.get("qk_layernorm"):
        fields["qk_norm"] = "layer"
    eos = config.get("eos_token_id")
    return LMConfig(
        **fields,
        num_labels=_num_labels(config),
        bos_id=config.get("bos_token_id"),
        eos_ids=() if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,),
        pad_id=config.get("pad_token_id"),
        hf_json=json.dumps(config),
    )


def config_to_hf(cfg: LMConfig) -> dict:
    """config.json of `cfg` as a dict; keys of the original file that jaxlab ignores are kept.

    A config that was built here is written in both dialects, so that any transformers reads it.
    Raises ValueError, naming the fields, when `cfg` is not a model of its model_type.
    """
    if cfg.model_type not in _FAMILIES:
        raise ValueError(
            f"model_type {cfg.model_type!r} is not supported; supported: {', '.join(MODEL_TYPES)}"
        )
    original = json.loads(cfg.hf_json) if cfg.hf_json else {}
    family = _FAMILIES[cfg.model_type]
    out = dict(original) | {"model_type": cfg.model_type}
    for field, key in family.keys.items():
        out[key] = getattr(cfg, field)
    activation = family.keys["activation"]
    if _ACTIVATIONS.get(original.get(activation, "")) == cfg.activation:
        out[activation] = original[activation]
    else:
        out[activation] = _ACTIVATION_NAMES[cfg.activation]
    default = _default_head_dim(cfg.model_type, cfg.d_model, cfg.n_heads)
    if "head_dim" in original or cfg.head_dim != default:
        out["head_dim"] = cfg.head_dim
    if cfg.model_type in ("llama", "qwen3", "gpt_neox"):
        out["attention_bias"] = cfg.qkv_bias
    if cfg.position == "rope":
        out |= rope_to_hf(cfg, original)
    out |= _windows_to_hf(cfg, original)
    if cfg.model_type == "gpt_neox":
        out["use_parallel_residual"] = cfg.residual == "parallel"
    if cfg.model_type == "phi":
        out["qk_layernorm"] = cfg.qk_norm == "layer"
    out |= _labels_to_hf(cfg, original)
    eos = cfg.eos_ids[0] if len(cfg.eos_ids) == 1 else list(cfg.eos_ids) or None
    if isinstance(original.get("eos_token_id"), list):
        eos = list(cfg.eos_ids)
    out |= {"bos_token_id": cfg.bos_id, "eos_token_id": eos, "pad_token_id": cfg.pad_id}
    _check_expressible(cfg, out)
    return out


def _check_expressible(cfg: LMConfig, out: dict):
    """ValueError unless the dict `out` describes exactly `cfg`."""
    again = config_from_hf(out)
    if not any(cfg.windows):
        cfg = dataclasses.replace(cfg, windows=())
    lost = [
        f"{field.name}={getattr(cfg, field.name)!r}"
        for field in dataclasses.fields(cfg)
        if field.compare and getattr(cfg, field.name) != getattr(again, field.name)
    ]
    if lost:
        raise ValueError(
            f"a {cfg.model_type} checkpoint cannot express {', '.join(lost)}; "
            "save the parameters as a jaxlab checkpoint instead"
        )


def _reject_variants(config: dict):
    for key, plain in (
        ("scale_attn_by_inverse_layer_idx", False),
        ("scale_attn_weights", True),
        ("add_cross_attention", False),
    ):
        if config["model_type"] == "gpt2" and config.get(key, plain) != plain:
            raise ValueError(
                f"gpt2 with {key}={config[key]!r} is not supported; supported: {key}={plain}"
            )


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is not supported; supported: {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _default_head_dim(model_type: str, d_model: int, n_heads: int) -> int:
    return 128 if model_type == "qwen3" else d_model // n_heads


def _biases(config: dict, model_type: str) -> dict:
    """The attention biases where a key sets them; it covers q, k, v and the output projection."""
    if model_type not in ("llama", "qwen3", "gpt_neox"):
        return {}
    bias = bool(config.get("attention_bias", model_type == "gpt_neox"))
    return {"qkv_bias": bias, "out_bias": bias}


# Reward models whose class is their own, though they are a sequence classifier with one label.
_SCALAR_REWARDS = ("EurusRewardModel",)


def _num_labels(config: dict) -> int:
    architecture = (config.get("architectures") or [""])[0]
    if architecture in _SCALAR_REWARDS:
        return 1
    if "Reward" in architecture:
        raise ValueError(
            f"reward model {architecture} has a head of its own that is not supported; supported: "
            f"*ForSequenceClassification, {', '.join(_SCALAR_REWARDS)}"
        )
    if not architecture.endswith("ForSequenceClassification"):
        return 0
    return len(config.get("id2label") or ()) or config.get("num_labels") or 2


def _labels_to_hf(cfg: LMConfig, original: dict) -> dict:
    causal, classifier = _ARCHITECTURES[cfg.model_type]
    if not cfg.num_labels:
        return {"architectures": [causal]}
    out: dict[str, Any] = {"architectures": [classifier]}
    if len(original.get("id2label") or ()) != cfg.num_labels:
        names = [f"LABEL_{i}" for i in range(cfg.num_labels)]
        out["id2label"] = {str(i): name for i, name in enumerate(names)}
        out["label2id"] = {name: i for i, name in enumerate(names)}
    return out


def _windows(config: dict, model_type: str, n_layers: int) -> tuple[int, ...]:
    width = config.get("sliding_window", None if model_type == "phi3" else 4096)
    if model_type in ("mistral", "phi3"):
        return (int(width),) * n_layers if width else ()
    if model_type not in ("qwen2", "qwen3") or not config.get("use_sliding_window") or not width:
        return ()
    kinds = config.get("layer_types")
    if kinds is not None:
        windows = tuple(int(width) if kind == "sliding_attention" else 0 for kind in kinds)
    else:
        first = config.get("max_window_layers", 28)
        windows = tuple(int(width) if i >= first else 0 for i in range(n_layers))
    return windows if any(windows) else ()


def _windows_to_hf(cfg: LMConfig, original: dict) -> dict:
    width = max(cfg.windows, default=0)
    if cfg.model_type in ("mistral", "phi3"):
        return {"sliding_window": width or None}
    if cfg.model_type not in ("qwen2", "qwen3"):
        return {}
    if not width:
        return {"use_sliding_window": False} | (
            {"layer_types": ["full_attention"] * cfg.n_layers} if "layer_types" in original else {}
        )
    kinds = ["sliding_attention" if w else "full_attention" for w in cfg.windows]
    return {"use_sliding_window": True, "sliding_window": width, "layer_types": kinds}
