"""Tiny perturbed models and padded batches that the language-model tests share."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm

BASE = {
    "vocab_size": 97,
    "d_model": 48,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 12,
    "d_ff": 80,
    "max_seq_len": 64,
}

# One entry per shape of architecture that a family needs.
VARIANTS = {
    "llama": {},
    "gpt2": {
        "n_kv_heads": 4,
        "norm": "layer",
        "position": "learned",
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "activation": "gelu_tanh",
        "gated": False,
        "tie_embeddings": True,
        "model_type": "gpt2",
    },
    "gpt_neox": {
        "n_kv_heads": 4,
        "norm": "layer",
        "rope_fraction": 0.5,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "activation": "gelu",
        "gated": False,
        "residual": "parallel",
        "model_type": "gpt_neox",
    },
    "phi": {
        "norm": "layer",
        "rope_fraction": 0.5,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "head_bias": True,
        "qk_norm": "layer",
        "activation": "gelu_tanh",
        "gated": False,
        "residual": "parallel_shared",
        "model_type": "phi",
    },
    "qwen3": {"head_dim": 16, "qk_norm": "rms", "windows": (0, 5, 5), "model_type": "qwen3"},
    "shifted": {"token_shift": 2, "rope_fraction": 0.25, "windows": (5, 5, 5)},
}


def config(variant: str = "llama", **changes) -> lm.LMConfig:
    return lm.LMConfig(**(BASE | VARIANTS[variant] | changes))


def perturbed(cfg: lm.LMConfig, seed: int = 0, std: float = 0.1):
    """Parameters whose norms are not 1 and biases not 0, so that no term can hide."""
    params = lm.init_params(jax.random.key(seed), cfg)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return jax.tree.unflatten(
        tree,
        [p + std * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)],
    )


def padded_batch(vocab_size: int = 97, seed: int = 0):
    """(tokens, mask) [3, 20]: a full row, one with 6 pads on the left, one with 5 on the right."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab_size, (3, 20)).astype(np.int32)
    mask = np.ones((3, 20), bool)
    mask[1, :6] = False
    mask[2, 15:] = False
    return tokens, mask


def max_error(a, b, mask) -> float:
    """Largest absolute difference on the positions of mask [B, T]; a, b [B, T, ...]."""
    return float(jnp.max(jnp.abs(jnp.asarray(a) - jnp.asarray(b))[jnp.asarray(mask)]))
