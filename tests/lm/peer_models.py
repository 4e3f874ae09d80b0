"""Tiny models of every family as transformers knows them, with weights that need no torch.

Each case is the keyword arguments of a transformers config. Weights are a function of the tensor
name alone, so that a recorded output can be compared where torch is absent.
"""

import math
import zlib

import numpy as np

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2_SIZES = {
    "vocab_size": 97,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GQA = SIZES | {"num_key_value_heads": 2}


def _rope(kind, theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def _long(original, **more):
    factors = {"short_factor": [1.0 + 0.1 * i for i in range(6)]}
    factors["long_factor"] = [1.5 + 0.4 * i for i in range(6)]
    return {"original_max_position_embeddings": original} | _rope("longrope", **factors, **more)


CASES = {
    "gpt2": ("gpt2", GPT2_SIZES),
    "gpt2_inner_untied": ("gpt2", GPT2_SIZES | {"n_inner": 80, "tie_word_embeddings": False}),
    "gpt_neox": ("gpt_neox", SIZES | {"use_parallel_residual": True} | _rope("default")),
    "gpt_neox_sequential": (
        "gpt_neox",
        SIZES
        | {"use_parallel_residual": False, "hidden_act": "gelu_new"}
        | _rope("default", partial_rotary_factor=0.5),
    ),
    "llama": ("llama", GQA | _rope("default", 500.0)),
    "llama_biases_head_dim": (
        "llama",
        GQA | {"attention_bias": True, "mlp_bias": True, "head_dim": 16, "hidden_act": "relu"},
    ),
    "llama_tied": ("llama", GQA | {"tie_word_embeddings": True}),
    "llama_linear": ("llama", GQA | _rope("linear", factor=2.5)),
    "llama_llama3": (
        "llama",
        GQA
        | _rope(
            "llama3",
            500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama_yarn": (
        "llama",
        GQA | _rope("yarn", factor=4.0, beta_fast=4.0, original_max_position_embeddings=16),
    ),
    "llama_yarn_mscale": (
        "llama",
        GQA
        | _rope(
            "yarn",
            factor=4.0,
            mscale=0.7,
            mscale_all_dim=1.3,
            truncate=False,
            original_max_position_embeddings=16,
        ),
    ),
    "mistral_window": ("mistral", GQA | {"sliding_window": 5, "head_dim": 16}),
    "qwen2": ("qwen2", GQA | {"tie_word_embeddings": True}),
    "qwen2_window": (
        "qwen2",
        GQA | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", GQA | {"head_dim": 16}),
    "qwen3_bias_window": (
        "qwen3",
        GQA
        | {
            "head_dim": 16,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 2,
        },
    ),
    "phi": ("phi", SIZES | _rope("default", partial_rotary_factor=0.5)),
    "phi_qk_norm": ("phi", GQA | {"qk_layernorm": True}),
    "phi3_window": ("phi3", GQA | {"sliding_window": 5}),
    "phi3_long": ("phi3", GQA | _long(8)),
    "phi3_short": ("phi3", GQA | _long(32)),
    "phi3_partial": ("phi3", GQA | _rope("default", partial_rotary_factor=0.5)),
    "gpt2_labels": ("gpt2", GPT2_SIZES | {"num_labels": 3}),
    "gpt_neox_labels": ("gpt_neox", SIZES | {"num_labels": 3}),
    "llama_labels": ("llama", GQA | {"num_labels": 1}),
    "mistral_labels": ("mistral", GQA | {"num_labels": 2}),
}


def batch():
    """(tokens, mask, positions) [3, 20]: a full row, 6 pads on the left, 5 pads on the right."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 97, (3, 20))
    mask = np.ones((3, 20), np.int64)
    mask[1, :6] = 0
    mask[2, 15:] = 0
    tokens[mask == 0] = 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    return tokens, mask, positions


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor `name` of every case: lively, norms not 1, biases not 0, float32."""
    name = name.replace("embed_out", "lm_head")  # GPT-NeoX's head, in the file and in memory
    noise = 2 * np.random.default_rng(zlib.crc32(name.encode())).random(math.prod(shape)) - 1
    noise = noise.reshape(shape)
    if len(shape) == 1:
        noise = 0.3 * noise + ("norm" in name or ".ln_" in name) * name.endswith("weight")
    elif any(part in name for part in ("embed", "wte", "wpe")):
        noise = noise * 0.5
    else:
        noise = noise * 0.25
    return noise.astype(np.float32)


def build(case: str):
    """The transformers model of a case, float32, eager attention, in eval mode."""
    import torch
    import transformers

    model_type, kwargs = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **kwargs)
    kind = "SequenceClassification" if case.endswith("_labels") else "CausalLM"
    auto = getattr(transformers, f"AutoModelFor{kind}")
    model = auto.from_config(config, attn_implementation="eager").eval().float()
    state = {
        name: torch.from_numpy(weight(name, tuple(tensor.shape)))
        for name, tensor in model.state_dict().items()
    }
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    model.load_state_dict(state, strict=False)
    return model


def tensors(model) -> dict:
    """The tensors of a model under the names that its checkpoint has, tied ones once."""
    import tempfile

    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def written_config(model) -> dict:
    """The config.json that transformers writes for a model."""
    import json

    config = json.loads(model.config.to_json_string(use_diff=False))
    return config | {"architectures": [type(model).__name__]}


def outputs(model) -> dict[str, np.ndarray]:
    """Logits, hidden states and attentions of the batch, as float32 arrays."""
    import torch

    tokens, mask, positions = (torch.from_numpy(array) for array in batch())
    with torch.no_grad():
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            output_hidden_states=True,
            output_attentions=True,
        )
    return {
        "logits": out.logits.numpy(),
        "hidden_states": np.stack([h.numpy() for h in out.hidden_states]),
        "attentions": np.stack([a.numpy() for a in out.attentions]),
    }
