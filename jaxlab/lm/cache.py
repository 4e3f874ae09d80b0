"""The key-value cache: static shapes, slots common to all rows, written in place."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.lm.attention import HEAD_MAJOR, TOKEN_MAJOR
from jaxlab.lm.config import LMConfig
from jaxlab.lm.layers import block, embed, head_logits, require_logits
from jaxlab.lm.lora import Lora
from jaxlab.lm.masks import cache_visibility, check_tokens, last_valid, shared_window
from jaxlab.lm.norms import apply_norm
from jaxlab.lm.rope import rope_tables
from jaxlab.lm.token_shift import previous_tokens


class KVCache(NamedTuple):
    """Keys and values of the tokens seen so far; S slots.

    k, v: [L, B, S, K, d], keys after rotation. valid: bool [B, S], False for pads and free
    slots. length: int32 [B], valid tokens seen, which is the next position. index: int32, the
    next free slot. recent: int32 [B, n], the last n valid ids, newest first, -1 where fewer have
    been seen; None without token_shift.
    """

    k: jax.Array
    v: jax.Array
    valid: jax.Array
    length: jax.Array
    index: jax.Array  # type: ignore[assignment]  # hides tuple.index
    recent: jax.Array | None = None


def init_cache(cfg: LMConfig, batch_size: int, max_len: int, dtype=jnp.float32) -> KVCache:
    """An empty cache of `max_len` slots for `batch_size` rows.

    Takes 2 L K d itemsize bytes per row and slot. Raises ValueError for sizes <= 0 and for more
    slots than a learned position table has rows.
    """
    if batch_size <= 0 or max_len <= 0:
        raise ValueError(f"batch_size and max_len must be >= 1, got {batch_size} and {max_len}")
    if cfg.position == "learned" and max_len > cfg.max_seq_len:
        raise ValueError(
            f"a cache of {max_len} slots exceeds the {cfg.max_seq_len} learned positions "
            "(max_seq_len)"
        )
    shape = (cfg.n_layers, batch_size, max_len, cfg.n_kv_heads, cfg.head_dim)
    recent = None
    if cfg.token_shift:
        recent = jnp.full((batch_size, cfg.token_shift), -1, jnp.int32)
    return KVCache(
        k=jnp.zeros(shape, dtype),
        v=jnp.zeros(shape, dtype),
        valid=jnp.zeros((batch_size, max_len), bool),
        length=jnp.zeros((batch_size,), jnp.int32),
        index=jnp.zeros((), jnp.int32),
        recent=recent,
    )


def extend(
    params: dict,
    cfg: LMConfig,
    tokens: ArrayLike,
    cache: KVCache,
    *,
    attention_mask: ArrayLike | None = None,
    lora: Lora | None = None,
    compute_dtype=None,
    last_only: bool = False,
) -> tuple[jax.Array, KVCache]:
    """Feeds tokens [B, T] after those in the cache: T = 1 decodes, any T prefills or continues.

    attention_mask: [B, T]; pads are stored but never seen, and take no position. Returns
    (logits [B, T, V] float32, cache), or with last_only the logits [B, V] at the last valid
    token of each row (the last slot of a row without any). The cache must be of the compiled
    program's own to be written in place: donate it, or carry it through a loop.

    longrope is decided by the size of the cache, see `rope_tables`. Raises ValueError when the
    batch differs from the cache's, and when the free slots do not suffice (inside a compiled
    program, where the number of used slots is unknown: when T exceeds all slots), and for a model
    with a score head, which predicts no tokens.
    """
    require_logits(cfg)
    tokens, arrays = check_tokens(tokens, attention_mask=attention_mask)
    rows, slots = cache.valid.shape
    if tokens.shape[0] != rows:
        raise ValueError(f"tokens have {tokens.shape[0]} rows but the cache has {rows}")
    used = int(cache.index) if is_concrete(cache.index) else 0
    if used + tokens.shape[1] > slots:
        raise ValueError(
            f"{tokens.shape[1]} tokens do not fit: {used} of the cache's {slots} slots are used; "
            "make it larger with resize_cache"
        )
    return _extend(
        params,
        cfg,
        tokens,
        cache,
        arrays["attention_mask"],
        lora,
        compute_dtype=None if compute_dtype is None else jnp.dtype(compute_dtype),
        last_only=last_only,
    )


@functools.partial(jax.jit, static_argnames=("cfg", "compute_dtype", "last_only"), inline=True)
def _extend(params, cfg, tokens, cache, attention_mask, lora, *, compute_dtype, last_only):
    _, T = tokens.shape
    new_valid = jnp.ones(tokens.shape, bool) if attention_mask is None else attention_mask
    index = cache.index
    valid = jax.lax.dynamic_update_slice(cache.valid, new_valid, (jnp.zeros_like(index), index))
    sight = cache_visibility(valid, new_valid, index, cache.length)

    recent, previous = cache.recent, None
    if cfg.token_shift:
        previous, recent = previous_tokens(tokens, new_valid, None, cache.recent)
    dtype = compute_dtype or params["embed"]["w"].dtype
    x = embed(params, cfg, tokens, sight.query_positions, previous, dtype)
    rope = None
    if cfg.position == "rope":
        rope = rope_tables(cfg, sight.query_positions, cache_slots=cache.valid.shape[1])
    window = shared_window(cfg)
    visible = None if window is None else sight.within(window)

    layout = HEAD_MAJOR if isinstance(cache, SplitCache) else TOKEN_MAJOR

    # The whole cache is carried, and each layer writes its slice: as xs and ys of the scan it
    # would be copied once per token.
    def body(carry, inputs):
        x, k_cache, v_cache = carry
        layer, adapters, number, window = inputs

        def store(k, v):
            k_all, k_layer = _write(k_cache, k, number, index, layout.k)
            v_all, v_layer = _write(v_cache, v, number, index, layout.v)
            return k_layer.astype(k.dtype), v_layer.astype(v.dtype), (k_all, v_all)

        x, _, stored = block(
            layer,
            cfg,
            x,
            rope,
            sight.within(window) if visible is None else visible,
            adapters=adapters,
            scale=1.0 if lora is None else lora.scale,
            store=store,
            layout=layout,
        )
        return (x, *stored), None

    adapters = None if lora is None else lora.layers
    windows = jnp.asarray(cfg.windows, jnp.int32) if visible is None else None
    carry = (x, cache.k, cache.v)
    layers = params["layers"]
    if isinstance(cache, SplitCache) or isinstance(layers, tuple):
        layers = layers if isinstance(layers, tuple) else split_layers(params)["layers"]
        for number, layer in enumerate(layers):
            beside = _take_layer((adapters, windows), number)
            carry, _ = body(carry, (layer, beside[0], number, beside[1]))
    else:
        numbers = jnp.arange(cfg.n_layers, dtype=jnp.int32)
        carry, _ = jax.lax.scan(body, carry, (layers, adapters, numbers, windows))
    x, k, v = carry
    hidden = apply_norm(x, params["final_norm"], cfg.norm_eps)
    if last_only:
        hidden = hidden[jnp.arange(hidden.shape[0]), last_valid(new_valid)]
    length = cache.length + jnp.sum(new_valid, axis=1, dtype=jnp.int32)
    new_cache = type(cache)(k, v, valid, length, index + T, recent)
    return head_logits(params, cfg, hidden), new_cache


def _write(stored, new, number, index, axes: str):
    """Puts the new keys or values [B, T, K, d] of layer `number` into the slots from `index` on.

    Returns (stored, the part of it that belongs to the layer).
    """
    new = jnp.einsum(f"bskd->{axes}", new)
    # Indices of one dtype: Python zeros are int64 where 64 bits are on.
    start = tuple(index if axis == "s" else jnp.zeros_like(index) for axis in axes)
    if isinstance(stored, tuple):
        layer = jax.lax.dynamic_update_slice(
            stored[number], new.astype(stored[number].dtype), start
        )
        return (*stored[:number], layer, *stored[number + 1 :]), layer
    new = new[None].astype(stored.dtype)
    place = (jnp.asarray(number, index.dtype), *start)
    stored = jax.lax.dynamic_update_slice(stored, new, place)
    return stored, jax.lax.dynamic_index_in_dim(stored, number, keepdims=False)


def split_layers(params: dict) -> dict:
    """Parameters whose "layers" is a tuple of L dicts, which `extend` takes as well.

    For a loop over single tokens on a CPU: XLA copies every layer out of the stacked arrays for
    every token, which takes longer than the products with it. Split before the loop, where they
    are copied once. The program then grows with L.
    """
    count = params["layers"]["attn"]["wq"].shape[0]
    return params | {"layers": tuple(_take_layer(params["layers"], i) for i in range(count))}


def _take_layer(stacked, number: int):
    return jax.tree.map(lambda leaf: leaf[number], stacked)


class SplitCache(KVCache):
    """A KVCache whose k and v are tuples of L arrays, keys [B, K, d, S] and values [B, K, S, d].

    As a loop over single tokens on a CPU wants them, beside `split_layers`: no layer is copied
    out of a stack, and both products read along the last axis (0.6x the time of a whole token
    over 256 slots). `extend` and `take_rows` take it.
    """

    __slots__ = ()


def split_cache(cache: KVCache) -> SplitCache:
    """A copy of the cache laid out for decoding."""

    def split(stacked, axes):
        return tuple(jnp.einsum(f"bskd->{axes}", layer) for layer in stacked)

    k, v = split(cache.k, HEAD_MAJOR.k), split(cache.v, HEAD_MAJOR.v)
    return SplitCache(*cache._replace(k=k, v=v))


def join_cache(cache: SplitCache) -> KVCache:
    """The inverse of `split_cache`."""

    def join(layers, axes):
        return jnp.stack([jnp.einsum(f"{axes}->bskd", layer) for layer in layers])

    k, v = join(cache.k, HEAD_MAJOR.k), join(cache.v, HEAD_MAJOR.v)
    return KVCache(*cache._replace(k=k, v=v))


def take_rows(cache: KVCache, rows: jax.Array) -> KVCache:
    """The cache of rows [m] (indices, repeats allowed) of the batch."""
    rows = jnp.asarray(rows)

    def take(stored):
        if isinstance(stored, tuple):
            return tuple(layer[rows] for layer in stored)
        return stored[:, rows]

    return cache._replace(
        k=take(cache.k),
        v=take(cache.v),
        valid=cache.valid[rows],
        length=cache.length[rows],
        recent=None if cache.recent is None else cache.recent[rows],
    )


def resize_cache(cache: KVCache, max_len: int) -> KVCache:
    """The cache with `max_len` slots: free ones added, or free ones cut off.

    Raises ValueError for max_len <= 0 or below the used slots (where their number is known, not
    inside a compiled program).
    """
    slots = cache.k.shape[2]
    used = int(cache.index) if is_concrete(cache.index) else 0
    if max_len <= 0 or max_len < used:
        raise ValueError(f"cannot resize a cache with {used} used slots to {max_len} slots")
    if max_len <= slots:
        return cache._replace(
            k=cache.k[:, :, :max_len], v=cache.v[:, :, :max_len], valid=cache.valid[:, :max_len]
        )
    more = max_len - slots
    return cache._replace(
        k=jnp.pad(cache.k, ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))),
        v=jnp.pad(cache.v, ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))),
        valid=jnp.pad(cache.valid, ((0, 0), (0, more))),
    )
