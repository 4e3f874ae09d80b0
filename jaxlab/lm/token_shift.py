"""The valid tokens just before each token, for input embeddings that look back (token_shift)."""

import jax
import jax.numpy as jnp


def previous_tokens(
    tokens: jax.Array,
    valid: jax.Array | None,
    segment_ids: jax.Array | None,
    recent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Ids of the j-th previous valid token of the same segment, j = 1..n, and the new `recent`.

    tokens, valid, segment_ids: [B, T] (None: all valid, one segment). recent: int32 [B, n], the
    last n valid ids before `tokens`, newest first, -1 where there are fewer. Returns
    (ids [n, B, T], -1 where there is none; recent [B, n] after `tokens`).
    """
    B, T = tokens.shape
    n = recent.shape[1]
    valid = jnp.ones((B, T), bool) if valid is None else valid
    segment_ids = jnp.zeros((B, T), jnp.int32) if segment_ids is None else segment_ids
    rows = jnp.arange(B)[:, None]
    # Valid tokens written one after another behind the n recent ones; slot of a pad: dropped.
    slot = n + jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1
    target = jnp.where(valid, slot, n + T)
    line = jnp.concatenate([recent[:, ::-1], jnp.full((B, T), -1, jnp.int32)], axis=1)
    line = line.at[rows, target].set(tokens, mode="drop")
    segments = jnp.zeros((B, n + T), jnp.int32)
    segments = segments.at[rows, target].set(segment_ids, mode="drop")

    def back(j):
        source = jnp.maximum(slot - j, 0)
        same = (segments[rows, source] == segment_ids) | (source < n)
        return jnp.where(same, line[rows, source], -1)

    ids = jnp.stack([back(j) for j in range(1, n + 1)])
    newest = slot[:, -1:] - jnp.arange(n)
    return ids, line[rows, newest]
