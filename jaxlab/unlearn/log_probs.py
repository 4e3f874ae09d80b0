"""Log-probabilities of scored tokens and of whole answers, on which every objective stands.

Axes: B examples, T tokens, V vocabulary entries. `labels` hold the token itself where it is scored
and `ignore_index` elsewhere; token t is predicted by the logits at t - 1, so position 0 never
counts. Logits of less than single precision are summed in single precision.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float, is_concrete

IGNORE_INDEX = -100


class TokenLogProbs(NamedTuple):
    """Log-probabilities of the tokens 1 to T - 1.

    Attributes:
      logp: `[B, T - 1]` float32, nats, 0 where not scored.
      mask: `[B, T - 1]` bool, whether the token is scored.
    """

    logp: jax.Array
    mask: jax.Array


class SeqLogProbs(NamedTuple):
    """Log-probabilities of answers.

    Attributes:
      logp: `[B]` float32, nats, summed (not averaged) over scored tokens.
      length: `[B]` int32, the number of scored tokens.
    """

    logp: jax.Array
    length: jax.Array


def token_logprobs(
    logits: ArrayLike, labels: ArrayLike, *, ignore_index: int = IGNORE_INDEX
) -> TokenLogProbs:
    """log p(label t | tokens before t) for every scored token.

    Args:
      logits: `[B, T, V]`.
      labels: `[B, T]` integers.
      ignore_index: label of what is not scored.

    Raises:
      ValueError: ranks or shapes that do not fit, labels that are not integers.
    """
    shape, label_shape = np.shape(logits), np.shape(labels)
    if len(shape) != 3 or shape[:2] != label_shape:
        raise ValueError(
            f"logits [B, T, V] and labels [B, T] must agree, got {shape} and {label_shape}"
        )
    labels = jnp.asarray(labels)
    _require_integers(labels)
    return _token_logprobs(jnp.asarray(logits), labels, ignore_index)


def sequence_logprobs(
    logits: jax.Array, labels: jax.Array, *, ignore_index: int = IGNORE_INDEX
) -> SeqLogProbs:
    """log p(y | x) of each row, summed over its scored tokens, and their number.

    A row without scored tokens has log-probability 0 and length 0. Arguments and errors are those
    of `token_logprobs`.
    """
    return summed(token_logprobs(logits, labels, ignore_index=ignore_index))


class ChunkedHead(NamedTuple):
    """The last product of a language model on its own, so that it need not be made everywhere.

    Attributes:
      weights: from the model's parameters to the head's own; a gradient is accumulated over
        chunks for these alone.
      logits: `(weights, hidden [n, D]) -> logits [n, V]`.
      chunk_size: positions whose logits exist at one time, for vocabularies whose logits do not
        fit in memory; None makes all at once and keeps them.
      scored: the most positions of a batch that are scored; logits are made of these alone. None
        makes them of all. A batch with more of them scores nan.
    """

    weights: Callable[[Any], Any]
    logits: Callable[[Any, jax.Array], jax.Array]
    chunk_size: int | None = 256
    scored: int | None = None

    def fitted(self, labels: ArrayLike, order: ArrayLike) -> "ChunkedHead":
        """The same for batches of the rows `order` `[S, B]` of labels `[N, T]`.

        Rounded up to eighths of a batch's positions, so that other orders and lengths find the
        same program. Traced arrays leave it as it is.
        """
        if not is_concrete(labels, order):
            return self
        counts = (np.asarray(labels)[:, 1:] != IGNORE_INDEX).sum(1)
        most = int(counts[np.asarray(order)].sum(1).max())
        eighth = -(-np.shape(order)[1] * (np.shape(labels)[1] - 1) // 8)
        return self._replace(scored=max(-(-most // eighth), 1) * eighth)


def chunked_token_logprobs(
    head: ChunkedHead,
    params: Any,
    hidden: jax.Array,
    labels: ArrayLike,
    *,
    ignore_index: int = IGNORE_INDEX,
) -> TokenLogProbs:
    """`token_logprobs` of `head.logits(hidden)` without ever holding `[B, T, V]`.

    With a chunk size, a scan over chunks of positions that computes their logits again in the
    backward pass: one more product with the head, for memory that does not grow with B and T. With
    `head.scored`, positions that are not scored cost nothing.

    Args:
      head: the head and the size of a chunk.
      params: of the whole model.
      hidden: `[B, T, D]`, what the head takes.
      labels: `[B, T]` integers.
      ignore_index: label of what is not scored.

    Raises:
      ValueError: shapes that do not fit, labels that are not integers, or a chunk_size < 1.
    """
    hidden, labels = jnp.asarray(hidden), jnp.asarray(labels)
    if hidden.ndim != 3 or hidden.shape[:2] != labels.shape:
        raise ValueError(
            f"hidden [B, T, D] and labels [B, T] must agree, got {hidden.shape} and {labels.shape}"
        )
    if head.chunk_size is not None and head.chunk_size < 1:
        raise ValueError(f"chunk_size must be >= 1, got {head.chunk_size}")
    _require_integers(labels)
    labels = labels[:, 1:]
    mask = labels != ignore_index
    flat, flat_labels = hidden[:, :-1].reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    weights = head.weights(params)
    if head.scored is None or head.scored >= labels.size:
        logp = _flat_logprobs(head, weights, flat, flat_labels, ignore_index)
        return TokenLogProbs(logp.reshape(labels.shape), mask)
    place = jnp.nonzero(mask.reshape(-1), size=head.scored, fill_value=labels.size)[0]
    logp = _flat_logprobs(
        head,
        weights,
        flat.at[place].get(mode="fill", fill_value=0),
        flat_labels.at[place].get(mode="fill", fill_value=ignore_index),
        ignore_index,
    )
    logp = jnp.where(mask.sum() > head.scored, jnp.nan, logp)
    everywhere = jnp.zeros(labels.size, logp.dtype).at[place].set(logp, mode="drop")
    return TokenLogProbs(everywhere.reshape(labels.shape), mask)


def _flat_logprobs(
    head: ChunkedHead, weights: Any, hidden: jax.Array, labels: jax.Array, ignore_index: int
) -> jax.Array:
    """Log-probabilities `[n]` at positions with hidden states `[n, D]`."""
    size = head.chunk_size
    if size is None or size >= labels.size:
        return _score_chunk(head.logits, ignore_index, weights, hidden, labels)

    def chunks(flat: jax.Array, fill: int) -> jax.Array:
        padding = ((0, -labels.size % size),) + ((0, 0),) * (flat.ndim - 1)
        flat = jnp.pad(flat, padding, constant_values=fill)
        return flat.reshape(-1, size, *flat.shape[1:])

    # The weights are an argument, not closed over, so that nothing but the chunk is kept.
    score = jax.checkpoint(functools.partial(_score_chunk, head.logits, ignore_index))

    def body(carry, chunk):
        return carry, score(weights, *chunk)

    _, logp = jax.lax.scan(body, None, (chunks(hidden, 0), chunks(labels, ignore_index)))
    return logp.reshape(-1)[: labels.size]


def _score_chunk(
    logits_of: Callable, ignore_index: int, weights: Any, hidden: jax.Array, labels: jax.Array
) -> jax.Array:
    return _label_logprobs(logits_of(weights, hidden), labels, labels != ignore_index)


def summed(tokens: TokenLogProbs) -> SeqLogProbs:
    """Log-probabilities of whole rows from those of their tokens."""
    return SeqLogProbs(tokens.logp.sum(-1), tokens.mask.sum(-1, dtype=jnp.int32))


@jax.jit
def _token_logprobs(logits: jax.Array, labels: jax.Array, ignore_index: int) -> TokenLogProbs:
    labels = labels[:, 1:]
    mask = labels != ignore_index
    return TokenLogProbs(_label_logprobs(logits[:, :-1], labels, mask), mask)


def _label_logprobs(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-probabilities of labels `[...]` under logits `[..., V]`, 0 where not scored."""
    logits = as_wide_float(logits)
    # Relative to the largest, so that large logits do not cancel each other's digits.
    logits = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    # A masked sum, which is fused, and whose gradient is a mask; that of indexing is a scatter.
    is_label = jnp.arange(logits.shape[-1]) == labels[..., None]
    chosen = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    logp = chosen - jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
    return jnp.where(mask, logp, 0)


def _require_integers(labels: jax.Array) -> None:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
