"""Grouped-query attention of queries over keys (Ainslie et al. 2023, arXiv 2305.13245)."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# Finite, so that a row that sees nothing gives a uniform softmax instead of NaN.
MASKED = -1e30

_MAX_BLOCKS = 8
_MIN_BLOCK = 64


class Layout(NamedTuple):
    """The order of the axes of keys and values: b rows, s tokens, k key heads, d features."""

    k: str
    v: str


TOKEN_MAJOR = Layout("bskd", "bskd")
# As the products of one query read them: 0.35x the time on a CPU.
HEAD_MAJOR = Layout("bkds", "bksd")


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array, layout: Layout = TOKEN_MAJOR
) -> tuple[jax.Array, jax.Array]:
    """softmax(q k^T / sqrt(d)) v for H query heads in K groups that share keys and values.

    q: [B, T, H, d]; k, v: [B, S, K, d], or with their axes as `layout` has them; visible: bool
    [B or 1, T, S]; query head h reads key head h // (H / K). Logits and softmax are float32.
    Returns (output [B, T, H d], probabilities [B, H, T, S] in the dtype of v).
    """
    B, T, H, _ = q.shape
    if T == 1:
        return _attend_one(q, k, v, visible, layout)
    q, k, v = _by_head(q, k, v, layout)
    weights, _, total = _exponentials(q, k, _by_row(visible, q))
    probs = (weights / total).astype(v.dtype).reshape(B, k.shape[1], T, -1, k.shape[-1])
    probs = probs.swapaxes(2, 3).reshape(B, H, T, -1)
    return _by_token(_average(weights, total, v), T), probs


def _attend_one(q, k, v, visible, layout):
    """`attend` for one query per row, as in decoding: keys and values are read where they lie.

    Transposing a cache for every token takes longer than the products on it.
    """
    B, _, H, d = q.shape
    K = k.shape[layout.k.index("k")]
    q = q.reshape(B, K, H // K, d)
    logits = _multiply(f"bkgd,{layout.k}->bkgs", q, k)
    logits = jnp.where(visible[:, None], logits / math.sqrt(d), MASKED)
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = _multiply(f"bkgs,{layout.v}->bkgd", weights.astype(v.dtype), v)
    out = (out / total).astype(v.dtype).reshape(B, 1, H * d)
    return out, (weights / total).astype(v.dtype).reshape(B, H, 1, -1)


def attend_causal(q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array) -> jax.Array:
    """The output of `attend` where no query sees a later key (T = S, visible is triangular).

    Works through blocks of queries and leaves out the keys that a block cannot see, which nearly
    halves the arithmetic of long sequences. The backward pass makes the probabilities anew from
    the saved maxima and sums (Dao et al. 2022, arXiv 2205.14135). A query that sees nothing gets
    some average of v. Forward mode (`jax.jvp`) needs `attend`.
    """
    T = q.shape[1]
    q, k, v = _by_head(q, k, v)
    q, k, v = (checkpoint_name(x, name) for x, name in ((q, "q"), (k, "k"), (v, "v")))
    return _by_token(_attend_blocks(q, k, v, _by_row(visible, q)), T)


@jax.custom_vjp
def _attend_blocks(q, k, v, visible):
    return _attend_blocks_forward(q, k, v, visible)[0]


def _attend_blocks_forward(q, k, v, visible):
    outs, peaks, totals = [], [], []
    for rows, keys in _blocks(q, k):
        weights, peak, total = _exponentials(q[:, :, rows], k[..., keys], visible[:, :, rows, keys])
        outs.append(_average(weights, total, v[..., keys]))
        peaks.append(peak)
        totals.append(total)
    out, peak, total = (
        checkpoint_name(jnp.concatenate(pieces, axis=2), name)
        for pieces, name in ((outs, "attended"), (peaks, "peak"), (totals, "total"))
    )
    return out, (q, k, v, visible, out, peak, total)


def _attend_blocks_backward(saved, d_out):
    q, k, v, visible, out, peak, total = saved
    # sum_s p_s (d_out . v_s), since out = sum_s p_s v_s.
    inner = jnp.sum(out.astype(jnp.float32) * d_out, axis=-1, keepdims=True)
    d_q, d_k, d_v = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for rows, keys in _blocks(q, k):
        d_row, seen = d_out[:, :, rows], visible[:, :, rows, keys]
        logits = _logits(q[:, :, rows], k[..., keys], seen)
        probs = jnp.exp(logits - peak[:, :, rows] - jnp.log(total[:, :, rows]))
        d_probs = _multiply("bkrd,bkds->bkrs", d_row, v[..., keys])
        d_logits = probs * (d_probs - inner[:, :, rows]) / math.sqrt(q.shape[-1])
        d_logits = jnp.where(seen, d_logits, 0).astype(q.dtype)
        d_q.append(_multiply("bkrs,bkds->bkrd", d_logits, k[..., keys]))
        d_k = d_k.at[..., keys].add(_multiply("bkrd,bkrs->bkds", q[:, :, rows], d_logits))
        d_v = d_v.at[..., keys].add(_multiply("bkrd,bkrs->bkds", d_row, probs.astype(v.dtype)))
    d_q = jnp.concatenate(d_q, axis=2)
    return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None


_attend_blocks.defvjp(_attend_blocks_forward, _attend_blocks_backward)


def _blocks(q, k):
    """(rows of queries, the keys up to the last of them) of each block, as slices."""
    T = k.shape[-1]
    G = q.shape[2] // T
    size = max(_MIN_BLOCK, -(-T // _MAX_BLOCKS))
    stops = [(start, min(start + size, T)) for start in range(0, T, size)]
    return [(slice(start * G, stop * G), slice(stop)) for start, stop in stops]


def _by_head(q, k, v, layout=TOKEN_MAJOR):
    """q [B, K, T G, d] and k, v [B, K, d, S], axes in the order in which both passes multiply.

    The G queries of one token that share a key head are neighbours, so that a block of tokens is
    a block of rows. With k, v [B, K, S, d] their gradients contract over a leading axis: 1.2x the
    time on a CPU.
    """
    B, T, H, d = q.shape
    k, v = jnp.einsum(f"{layout.k}->bkds", k), jnp.einsum(f"{layout.v}->bkds", v)
    K = k.shape[1]
    q = q.reshape(B, T, K, H // K, d).swapaxes(1, 2).reshape(B, K, -1, d)
    return q, k, v


def _by_row(visible, q):
    """visible [B or 1, T, S] as [B or 1, 1, T G, S]."""
    return jnp.repeat(visible, q.shape[2] // visible.shape[1], axis=1)[:, None]


def _by_token(out, T):
    """out [B, K, T G, d] as [B, T, H d]."""
    B, K, _, d = out.shape
    return out.reshape(B, K, T, -1, d).swapaxes(1, 2).reshape(B, T, -1)


def _exponentials(q, k, visible):
    """(exp(logits - their maximum) [B, K, R, S], the maximum and the sums [B, K, R, 1])."""
    logits = _logits(q, k, visible)
    peak = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - peak)
    return weights, peak, jnp.sum(weights, axis=-1, keepdims=True)


def _logits(q, k, visible):
    logits = _multiply("bkrd,bkds->bkrs", q, k) / math.sqrt(q.shape[-1])
    return jnp.where(visible, logits, MASKED)


def _average(weights, total, v):
    """sum_s weights v / total [B, K, R, d]: normalised on d columns instead of S."""
    out = _multiply("bkrs,bkds->bkrd", weights.astype(v.dtype), v)
    return (out / total).astype(v.dtype)


_multiply = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
