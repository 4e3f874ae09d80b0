"""Next-token losses and scores; sums with weights, so that any split of a batch recombines."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import is_zero
from jaxlab.lm.config import LMConfig
from jaxlab.lm.layers import head_logits, require_logits
from jaxlab.lm.masks import check_tokens, last_valid
from jaxlab.lm.model import forward


def token_log_probs(logits: jax.Array, tokens: ArrayLike) -> jax.Array:
    """log p(token t | tokens before t) [B, T - 1] in nats, from logits [B, T, V], tokens [B, T]."""
    return -cross_entropy(logits[:, :-1], jnp.asarray(tokens)[:, 1:])[0]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(logsumexp(logits) - logits[label], logsumexp(logits)), each [...]; logits [..., V], nats."""
    logits = logits.astype(jnp.float32)
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    # A masked sum, whose gradient is a mask; that of indexing is a scatter and costs more.
    is_label = jnp.arange(logits.shape[-1]) == labels[..., None]
    return normalizer - jnp.sum(jnp.where(is_label, logits, 0), axis=-1), normalizer


def next_token_loss(
    params: dict,
    cfg: LMConfig,
    batch: dict,
    *,
    z_loss: float = 0.0,
    chunk: int = 0,
    **forward_kw,
) -> tuple[jax.Array, jax.Array]:
    """(sum over counted tokens of -log p + z_loss * logsumexp^2, number of counted tokens).

    batch: "tokens" [B, T] and optionally "loss_mask", "attention_mask", "segment_ids" [B, T];
    other entries are ignored. loss_mask marks target tokens: it switches on the prediction of
    token t from t - 1. The first token never counts, and both t - 1 and t must be valid and of
    one segment. Divide the sum of the sums by the sum of the weights, over micro-batches and
    devices alike. chunk > 0 computes head and loss over that many tokens at a time and again in
    the backward pass, so that [B, T, V] never exists. forward_kw goes to `forward`.
    """
    require_logits(cfg)
    tokens, masks = check_tokens(
        batch["tokens"],
        loss_mask=batch.get("loss_mask"),
        attention_mask=batch.get("attention_mask"),
        segment_ids=batch.get("segment_ids"),
    )
    labels, weights = shifted_targets(tokens, **masks)
    out = forward(
        params,
        cfg,
        tokens,
        attention_mask=masks["attention_mask"],
        segment_ids=masks["segment_ids"],
        **forward_kw,
    )
    z_loss = None if is_zero(z_loss) else z_loss
    if chunk <= 0:
        total = _loss_sum(out.logits, labels, weights, z_loss)
    else:
        total = _chunked_loss_sum(params, cfg, out.hidden, labels, weights, z_loss, chunk)
    return total, jnp.sum(weights)


def sequence_log_probs(
    params: dict,
    cfg: LMConfig,
    tokens: ArrayLike,
    *,
    loss_mask: ArrayLike | None = None,
    attention_mask: ArrayLike | None = None,
    **forward_kw,
) -> tuple[jax.Array, jax.Array]:
    """(sum of log p over the counted tokens of each row [B], their number [B]), nats.

    tokens, loss_mask, attention_mask: [B, T], with the meaning they have in `next_token_loss`.
    """
    require_logits(cfg)
    tokens, masks = check_tokens(tokens, loss_mask=loss_mask, attention_mask=attention_mask)
    segment_ids = forward_kw.get("segment_ids")
    labels, weights = shifted_targets(tokens, **masks, segment_ids=segment_ids)
    logits = forward(
        params, cfg, tokens, attention_mask=masks["attention_mask"], **forward_kw
    ).logits
    loss, _ = cross_entropy(logits, labels)
    return -jnp.sum(loss * weights, axis=1), jnp.sum(weights, axis=1)


def sequence_scores(
    params: dict,
    cfg: LMConfig,
    tokens: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    **forward_kw,
) -> jax.Array:
    """Scores [B, num_labels], float32, of the last valid token of each row of tokens [B, T].

    Raises ValueError for a model without a score head (num_labels 0).
    """
    if not cfg.num_labels:
        raise ValueError("sequence_scores needs a score head, but the config has num_labels 0")
    tokens, masks = check_tokens(tokens, attention_mask=attention_mask)
    mask = masks["attention_mask"]
    hidden = forward(params, cfg, tokens, attention_mask=mask, **forward_kw).hidden
    if mask is None:
        last = hidden[:, -1]
    else:
        last = hidden[jnp.arange(hidden.shape[0]), last_valid(mask)]
    weight = params["score"]["w"].astype(last.dtype)
    return jnp.matmul(last, weight, preferred_element_type=jnp.float32)


def shifted_targets(
    tokens: jax.Array,
    loss_mask: jax.Array | None = None,
    attention_mask: jax.Array | None = None,
    segment_ids: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(labels [B, T], weights [B, T] float32): what position t predicts and whether it counts.

    The label of position t is token t + 1; the last position predicts nothing and has weight 0.
    """

    def shift(array):
        return jnp.roll(array, -1, axis=1)

    counts = jnp.arange(tokens.shape[1])[None] < tokens.shape[1] - 1
    counts = jnp.broadcast_to(counts, tokens.shape)
    if loss_mask is not None:
        counts = counts & shift(loss_mask)
    if attention_mask is not None:
        counts = counts & attention_mask & shift(attention_mask)
    if segment_ids is not None:
        counts = counts & (segment_ids == shift(segment_ids))
    return shift(tokens), counts.astype(jnp.float32)


def _loss_sum(logits, labels, weights, z_loss):
    loss, normalizer = cross_entropy(logits, labels)
    if z_loss is not None:
        loss = loss + z_loss * normalizer**2
    return jnp.sum(loss * weights)


@functools.partial(jax.jit, static_argnames=("cfg", "chunk"), inline=True)
def _chunked_loss_sum(params, cfg, hidden, labels, weights, z_loss, chunk):
    n = labels.size
    n_chunks = -(-n // chunk)

    def split(array, *shape):
        flat = array.reshape(n, *shape)
        flat = jnp.pad(flat, ((0, n_chunks * chunk - n),) + ((0, 0),) * len(shape))
        return flat.reshape(n_chunks, chunk, *shape)

    # The head alone: a closure over all parameters would make the scan carry all their gradients.
    head = {name: params[name] for name in ("head", "embed") if name in params}

    @jax.checkpoint
    def add(total, piece):
        h, y, w = piece
        return total + _loss_sum(head_logits(head, cfg, h), y, w, z_loss), None

    pieces = split(hidden, hidden.shape[-1]), split(labels), split(weights)
    total, _ = jax.lax.scan(add, jnp.zeros((), jnp.float32), pieces)
    return total
