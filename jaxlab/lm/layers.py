"""The parts of the decoder: linear maps, one block, the input embedding, the output head."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxlab.lm.attention import TOKEN_MAJOR, Layout, attend, attend_causal
from jaxlab.lm.config import LMConfig
from jaxlab.lm.norms import apply_norm
from jaxlab.lm.rope import apply_rope

_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def linear(x: jax.Array, w: jax.Array, b=None, adapter=None, scale: float = 1.0) -> jax.Array:
    """x w + b, plus scale (x A) B with a LoRA adapter {"a", "b"}; x [B, T, in], w [in, out]."""
    # Two axes, not three: on plain matrices XLA's CPU backend takes 0.76x the time for a whole
    # training step.
    flat = x.reshape(-1, x.shape[-1])
    y = flat @ w
    if adapter is not None:
        y = y + (flat @ adapter["a"].astype(x.dtype)) @ adapter["b"].astype(x.dtype) * scale
    if b is not None:
        y = y + b
    return y.reshape(*x.shape[:-1], -1)


# The names, given with `checkpoint_name`, of what the backward pass cannot get back cheaply.
SAVED = ("q", "k", "v", "attended", "peak", "total", "up", "gate")


def block(
    layer: dict,
    cfg: LMConfig,
    x: jax.Array,
    rope: tuple[jax.Array, jax.Array] | None,
    visible: jax.Array,
    *,
    adapters: dict | None = None,
    scale: float = 1.0,
    store: Callable | None = None,
    layout: Layout = TOKEN_MAJOR,
    with_probs: bool = False,
):
    """One decoder block on the residual stream x [B, T, D].

    layer: parameters of one layer; rope: (cos, sin) [B or 1, T, n]; visible: bool [B or 1, T, S];
    adapters: the LoRA matrices of this layer. store(k, v) -> (k, v, carry) exchanges the new
    keys and values [B, T, K, d] for those to attend to, [B, S, K, d] unless `layout` says otherwise
    (a cache).
    Returns (x, attention probabilities [B, H, T, S] or None, carry or None).
    """
    layer = jax.tree.map(lambda w: w.astype(x.dtype), layer)
    adapters = adapters or {}
    normed = apply_norm(x, layer["attn_norm"], cfg.norm_eps)
    attended, probs, carry = _attention(
        layer["attn"],
        cfg,
        normed,
        rope,
        visible,
        adapters.get("attn", {}),
        scale,
        store,
        layout,
        with_probs,
    )
    # What the MLP reads: the stream after attention, before it, or what attention itself read.
    if cfg.residual == "sequential":
        normed = apply_norm(x + attended, layer["mlp_norm"], cfg.norm_eps)
    elif cfg.residual == "parallel":
        normed = apply_norm(x, layer["mlp_norm"], cfg.norm_eps)
    x = x + attended + _mlp(layer["mlp"], cfg, normed, adapters.get("mlp", {}), scale)
    return x, probs, carry


def _attention(attn, cfg, x, rope, visible, adapters, scale, store, layout, with_probs):
    B, T, _ = x.shape

    def project(letter, n_heads):
        name = "w" + letter
        y = linear(x, attn[name], attn.get("b" + letter), adapters.get(name), scale)
        return y.reshape(B, T, n_heads, cfg.head_dim)

    q = project("q", cfg.n_heads)
    k, v = project("k", cfg.n_kv_heads), project("v", cfg.n_kv_heads)
    if cfg.qk_norm != "none":
        q = apply_norm(q, attn["q_norm"], cfg.norm_eps)
        k = apply_norm(k, attn["k_norm"], cfg.norm_eps)
    if rope is not None:
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
    probs, carry = None, None
    if store is not None:
        k, v, carry = store(k, v)
    if store is None and not with_probs:
        out = attend_causal(q, k, v, visible)
    else:
        out, probs = attend(q, k, v, visible, layout)
    return linear(out, attn["wo"], attn.get("bo"), adapters.get("wo"), scale), probs, carry


def _mlp(mlp, cfg, x, adapters, scale):
    activate = _ACTIVATIONS[cfg.activation]
    up = linear(x, mlp["w_up"], mlp.get("b_up"), adapters.get("w_up"), scale)
    up = checkpoint_name(up, "up")
    if cfg.gated:
        gate = linear(x, mlp["w_gate"], mlp.get("b_gate"), adapters.get("w_gate"), scale)
        up = activate(checkpoint_name(gate, "gate")) * up
    else:
        up = activate(up)
    return linear(up, mlp["w_down"], mlp.get("b_down"), adapters.get("w_down"), scale)


def embed(
    params: dict, cfg: LMConfig, tokens: jax.Array, positions: jax.Array, previous, dtype
) -> jax.Array:
    """Input embeddings [B, T, D] of tokens [B, T]: E[token] (+ P[position]) (+ shift tables).

    previous: ids [n, B, T] of the j-th previous valid tokens, -1 for none (token_shift only).
    """
    x = params["embed"]["w"][tokens].astype(dtype)
    if cfg.position == "learned":
        x = x + params["pos_embed"]["w"][positions].astype(dtype)
    if cfg.token_shift:
        for table, ids in zip(params["embed"]["shift"], previous, strict=True):
            x = x + jnp.where(ids[..., None] >= 0, table[ids], 0).astype(dtype)
    return x


def require_logits(cfg: LMConfig):
    """Raises ValueError for a model with a score head in place of next-token logits."""
    if cfg.num_labels:
        raise ValueError(
            f"a model with a score head (num_labels {cfg.num_labels}) predicts no tokens; "
            "use sequence_scores"
        )


def head_logits(params: dict, cfg: LMConfig, hidden: jax.Array) -> jax.Array:
    """Next-token logits [..., V] in float32 of final hidden states [..., D].

    For a loss of a few positions: hidden states of `forward` are not turned into logits unless
    the logits are used, so a program that takes `hidden` alone makes none of the others.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    head = params.get("head", {})
    if cfg.tie_embeddings:
        weight = params["embed"]["w"].astype(flat.dtype).T
    else:
        weight = head["w"].astype(flat.dtype)
    logits = jnp.matmul(flat, weight, preferred_element_type=jnp.float32)
    if cfg.head_bias:
        logits = logits + head["b"].astype(jnp.float32)
    return logits.reshape(*hidden.shape[:-1], -1)
