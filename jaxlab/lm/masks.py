"""Which token sees which, and at which position it stands; checks of the token inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.checks import check_equal_shapes
from jaxlab.lm.config import LMConfig


class Visibility(NamedTuple):
    """What attention may look at.

    visible: bool [B or 1, T, S], query t may look at key s before any sliding window.
    query_positions: int32 [B or 1, T]. key_positions: int32 [B or 1, S].
    """

    visible: jax.Array
    query_positions: jax.Array
    key_positions: jax.Array

    def within(self, window) -> jax.Array:
        """bool [B or 1, T, S] under a sliding window of `window` positions (0 = all)."""
        if isinstance(window, int) and window == 0:
            return self.visible
        distance = self.query_positions[:, :, None] - self.key_positions[:, None, :]
        return self.visible & ((window == 0) | (distance < window))


def check_tokens(tokens, **per_token) -> tuple[jax.Array, dict[str, jax.Array | None]]:
    """Tokens as int32 [B, T] and the given per-token arrays, all checked against [B, T].

    Arrays named "*mask*" come back as bool, others as int32; None stays None.
    """
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"tokens must be an integer array [B, T], got {tokens.dtype} {tokens.shape}; "
            "add a batch axis with tokens[None] if there is one row"
        )
    check_equal_shapes(tokens=tokens, **per_token)
    checked = {}
    for name, array in per_token.items():
        if array is not None:
            array = jnp.asarray(array).astype(bool if "mask" in name else jnp.int32)
        checked[name] = array
    return tokens.astype(jnp.int32), checked


def check_ids(
    cfg: LMConfig,
    tokens: ArrayLike,
    mask: ArrayLike | None = None,
    segment_ids: ArrayLike | None = None,
) -> None:
    """Raises ValueError for ids or rows that a model does not have room for.

    For the host, where token ids enter: a compiled program clamps both in silence.

    Args:
      cfg: the model's.
      tokens: [..., T] ids, which must lie in [0, vocab_size).
      mask: [..., T]; what is off does not count. Of a model with learned positions, a row may
        have max_seq_len tokens that do, or, with segment_ids [..., T], each of its segments.
    """
    tokens = np.asarray(tokens)
    mask = np.ones(tokens.shape, bool) if mask is None else np.asarray(mask, bool)
    given = tokens[mask]
    if given.size and (given.min() < 0 or given.max() >= cfg.vocab_size):
        raise ValueError(
            f"token ids span {given.min()} to {given.max()}, the vocabulary 0 to "
            f"{cfg.vocab_size - 1}; was another tokenizer used?"
        )
    if cfg.position != "learned":
        return
    segments = np.zeros(tokens.shape, int) if segment_ids is None else np.asarray(segment_ids)
    rows = zip(
        segments.reshape(-1, tokens.shape[-1]), mask.reshape(-1, mask.shape[-1]), strict=True
    )
    counts = [np.unique(row[on], return_counts=True)[1].max(initial=0) for row, on in rows]
    longest = max(counts, default=0)
    if longest > cfg.max_seq_len:
        raise ValueError(
            f"{longest} tokens exceed the {cfg.max_seq_len} learned positions (max_seq_len); "
            "use shorter rows"
        )


def check_positions(cfg: LMConfig, tokens: jax.Array, arrays: dict[str, jax.Array | None]) -> None:
    """Raises ValueError for positions past a learned table, where the arrays are not traced."""
    traced = not is_concrete(*arrays.values())
    batch_size, length = tokens.shape
    fits = length <= cfg.max_seq_len and arrays["positions"] is None
    if cfg.position != "learned" or traced or fits:
        return
    with jax.ensure_compile_time_eval():
        sight = causal_visibility((batch_size, length), **arrays)
        count = int(sight.query_positions.max()) + 1
    if count > cfg.max_seq_len:
        raise ValueError(
            f"{count} tokens exceed the {cfg.max_seq_len} learned positions (max_seq_len)"
        )


def causal_visibility(
    batch_shape: tuple[int, int],
    attention_mask: jax.Array | None,
    positions: jax.Array | None,
    segment_ids: jax.Array | None,
) -> Visibility:
    """Visibility of a whole sequence [B, T]: earlier or same slot, valid key, same segment.

    Positions count the valid tokens before each token of its segment unless given, so padding
    may stand anywhere; a pad takes the position of the valid token before it, or 0.
    """
    _, length = batch_shape
    slots = jnp.arange(length)
    visible = (slots[None, :] <= slots[:, None])[None]
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, :]
    if segment_ids is not None:
        visible = visible & (segment_ids[:, None, :] == segment_ids[:, :, None])
    if positions is None:
        if segment_ids is not None:
            positions = jnp.sum(visible, axis=-1, dtype=jnp.int32) - 1
        elif attention_mask is not None:
            positions = jnp.cumsum(attention_mask, axis=1, dtype=jnp.int32) - 1
        else:
            positions = slots[None].astype(jnp.int32)
        positions = jnp.maximum(positions, 0)
    return Visibility(visible, positions, positions)


def cache_visibility(
    valid: jax.Array, new_valid: jax.Array, index: jax.Array, length: jax.Array
) -> Visibility:
    """Visibility of T new tokens over S cache slots, the new ones among them.

    valid: bool [B, S] with the new tokens written; new_valid: bool [B, T]; index: first new
    slot; length: int32 [B], valid tokens before the new ones.
    """
    slots = jnp.arange(valid.shape[1])
    new_slots = index + jnp.arange(new_valid.shape[1])
    visible = (slots[None, :] <= new_slots[:, None])[None] & valid[:, None, :]
    seen = jnp.cumsum(new_valid, axis=1, dtype=jnp.int32)
    query_positions = jnp.maximum(length[:, None] + seen - 1, 0)
    key_positions = jnp.maximum(jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1, 0)
    return Visibility(visible, query_positions, key_positions)


def last_valid(mask: jax.Array) -> jax.Array:
    """int32 [B], the index of the last valid token of each row of mask [B, T]; T - 1 if none."""
    return mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1).astype(jnp.int32)


def shared_window(cfg: LMConfig) -> int | None:
    """The one window of all layers (0 = full attention), or None where layers differ."""
    widths = set(cfg.windows) or {0}
    return widths.pop() if len(widths) == 1 else None
