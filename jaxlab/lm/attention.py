"""Grouped-query attention of queries over keys (Ainslie et al. 2023, arXiv 2305.13245)."""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# Finite, so that a row that sees nothing gives a uniform softmax instead of NaN.
MASKED = -1e30

_MAX_BLOCKS = 8
_MIN_BLOCK = 64


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """softmax(q k^T / sqrt(d)) v for H query heads in K groups that share keys and values.

    q: [B, T, H, d]; k, v: [B, S, K, d]; visible: bool [B or 1, T, S]; query head h reads key
    head h // (H / K). Logits and softmax are float32. Returns (output [B, T, H d],
    probabilities [B, H, T, S] in the dtype of v).
    """
    B, T, H, _ = q.shape
    if T == 1:
        return _attend_one(q, k, v, visible)
    out, weights, total = _attend_heads(*_by_head(q, k, v), visible)
    probs = (weights / total).astype(v.dtype).reshape(B, H, T, -1)
    return _by_token(out, B, T), probs


def _attend_one(q, k, v, visible):
    """`attend` for one query per row, as in decoding: keys and values are read where they lie.

    Transposing a cache for every token takes longer than the products on it.
    """
    B, _, H, d = q.shape
    K = k.shape[2]
    q = q.reshape(B, K, H // K, d)
    logits = jnp.einsum("bkgd,bskd->bkgs", q, k, preferred_element_type=jnp.float32)
    logits = jnp.where(visible[:, None], logits / math.sqrt(d), MASKED)
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.einsum(
        "bkgs,bskd->bkgd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    out = (out / total).astype(v.dtype).reshape(B, 1, H * d)
    return out, (weights / total).astype(v.dtype).reshape(B, H, 1, -1)


def attend_causal(q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array) -> jax.Array:
    """The output of `attend` where no query sees a later key (T = S, visible is triangular).

    Works through blocks of queries and leaves out the keys that a block cannot see, which nearly
    halves the arithmetic of long sequences. A query that sees nothing gets some average of v.
    """
    B, T = q.shape[:2]
    q, k, v = _by_head(q, k, v)
    q, k, v = (checkpoint_name(x, name) for x, name in ((q, "q"), (k, "k"), (v, "v")))
    size = max(_MIN_BLOCK, -(-T // _MAX_BLOCKS))
    blocks = []
    for start in range(0, T, size):
        stop = min(start + size, T)
        out, _, _ = _attend_heads(
            q[..., start:stop, :], k[..., :stop], v[..., :stop], visible[:, start:stop, :stop]
        )
        blocks.append(out)
    out = jnp.concatenate(blocks, axis=3)
    return checkpoint_name(_by_token(out, B, T), "attended")


def _by_head(q, k, v):
    """q [B, K, G, T, d] and k, v [B, K, d, S], axes in the order in which both passes multiply.

    With k, v [B, K, S, d] their gradients contract over a leading axis: 1.2x the time on a CPU.
    """
    B, T, H, d = q.shape
    K = k.shape[2]
    q = q.reshape(B, T, K, H // K, d).transpose(0, 2, 3, 1, 4)
    return q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 3, 1)


def _by_token(out, B, T):
    return out.transpose(0, 3, 1, 2, 4).reshape(B, T, -1)


def _attend_heads(q, k, v, visible):
    """(output [B, K, G, T, d], unnormalised weights [B, K, G, T, S], their sums [B, K, G, T, 1]).

    The output is normalised after the product with v, on d columns instead of S.
    """
    B, K, G, T, d = q.shape
    logits = jnp.einsum(
        "bkqd,bkds->bkqs", q.reshape(B, K, G * T, d), k, preferred_element_type=jnp.float32
    )
    logits = logits.reshape(B, K, G, T, -1) / math.sqrt(d)
    logits = jnp.where(visible[:, None, None], logits, MASKED)
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.einsum(
        "bkqs,bkds->bkqd",
        weights.astype(v.dtype).reshape(B, K, G * T, -1),
        v,
        preferred_element_type=jnp.float32,
    )
    return (out.reshape(B, K, G, T, d) / total).astype(v.dtype), weights, total
