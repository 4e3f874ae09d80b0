"""The parameter tree: shapes, initial values, counts, and the arithmetic they cost."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.lm.config import LMConfig


def param_shapes(cfg: LMConfig) -> dict:
    """The nested dict of parameters with a shape tuple at every leaf.

    Weights are [in, out]; leaves under "layers" have a leading layer axis L.
    """
    V, D, L, F = cfg.vocab_size, cfg.d_model, cfg.n_layers, cfg.d_ff
    queries, keys = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim

    def norm(kind, *shape):
        return {"scale": shape, "bias": shape} if kind == "layer" else {"scale": shape}

    attn: dict[str, Any] = {
        "wq": (L, D, queries),
        "wk": (L, D, keys),
        "wv": (L, D, keys),
        "wo": (L, queries, D),
    }
    if cfg.qkv_bias:
        attn |= {"bq": (L, queries), "bk": (L, keys), "bv": (L, keys)}
    if cfg.out_bias:
        attn["bo"] = (L, D)
    if cfg.qk_norm != "none":
        attn |= {name: norm(cfg.qk_norm, L, cfg.head_dim) for name in ("q_norm", "k_norm")}

    mlp: dict[str, tuple] = {"w_up": (L, D, F), "w_down": (L, F, D)}
    if cfg.gated:
        mlp["w_gate"] = (L, D, F)
    if cfg.mlp_bias:
        mlp |= {"b_up": (L, F), "b_down": (L, D)}
        if cfg.gated:
            mlp["b_gate"] = (L, F)

    layers = {"attn_norm": norm(cfg.norm, L, D), "attn": attn, "mlp": mlp}
    if cfg.residual != "parallel_shared":
        layers["mlp_norm"] = norm(cfg.norm, L, D)

    shapes: dict[str, Any] = {
        "embed": {"w": (V, D)},
        "layers": layers,
        "final_norm": norm(cfg.norm, D),
    }
    if cfg.token_shift:
        shapes["embed"]["shift"] = (cfg.token_shift, V, D)
    if cfg.position == "learned":
        shapes["pos_embed"] = {"w": (cfg.max_seq_len, D)}
    if cfg.num_labels:
        shapes["score"] = {"w": (D, cfg.num_labels)}
    else:
        head: dict[str, tuple] = {} if cfg.tie_embeddings else {"w": (D, V)}
        if cfg.head_bias:
            head["b"] = (V,)
        if head:
            shapes["head"] = head
    return shapes


def init_params(key: jax.Array, cfg: LMConfig, dtype=jnp.float32) -> dict:
    """Parameters of `cfg`: weights normal(init_std), norms 1, biases 0.

    The two projections that write to the residual stream (wo, w_down) are divided by sqrt(2 L)
    (GPT-2, Radford et al. 2019, section 2.3).
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(
        param_shapes(cfg), is_leaf=lambda shape: isinstance(shape, tuple)
    )
    keys = jax.random.split(key, len(leaves))
    values = [
        _initial(leaf_key, path[-1].key, shape, cfg, dtype)
        for leaf_key, (path, shape) in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, values)


def _initial(key, name, shape, cfg, dtype):
    if name == "scale":
        return jnp.ones(shape, dtype)
    if name.startswith("b"):
        return jnp.zeros(shape, dtype)
    std = cfg.init_std
    if name in ("wo", "w_down"):
        std = std / math.sqrt(2 * cfg.n_layers)
    return (std * jax.random.normal(key, shape, jnp.float32)).astype(dtype)


def count_params(params) -> int:
    """The number of scalars in a parameter tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def flops_per_token(cfg: LMConfig, context: float) -> float:
    """Forward FLOPs of one token that attends to `context` tokens: 2 M + 4 L H d context.

    M counts the matrix entries that a token meets. Training costs three times this at a mean
    context of (T + 1) / 2; with full rematerialisation four times.
    """
    heads = cfg.n_heads * cfg.head_dim
    projections = cfg.d_model * (heads + 2 * cfg.n_kv_heads * cfg.head_dim) + heads * cfg.d_model
    mlp = (3 if cfg.gated else 2) * cfg.d_model * cfg.d_ff
    outputs = cfg.num_labels or cfg.vocab_size
    matrices = cfg.n_layers * (projections + mlp) + cfg.d_model * outputs
    return float(2 * matrices + 4 * cfg.n_layers * heads * context)


def summary(cfg: LMConfig) -> str:
    """A table of the parameter shapes and counts of `cfg`, with the total, to print."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        param_shapes(cfg), is_leaf=lambda shape: isinstance(shape, tuple)
    )
    rows = [
        ("/".join(k.key for k in path), "x".join(map(str, shape)), math.prod(shape))
        for path, shape in leaves
    ]
    total = sum(count for _, _, count in rows)
    rows.append(("total", f"{total / 1e6:.2f}M", total))
    names, shapes = (max(len(row[i]) for row in rows) for i in (0, 1))
    title = f"{cfg.model_type}: {cfg.n_layers} layers, {cfg.residual} residual, {cfg.norm} norm"
    cost = f"forward GFLOP per token at context 1: {flops_per_token(cfg, 1) / 1e9:.4f}"
    lines = [f"{name:<{names}}  {shape:>{shapes}}  {count:>14,}" for name, shape, count in rows]
    return "\n".join([title, *lines, cost])
