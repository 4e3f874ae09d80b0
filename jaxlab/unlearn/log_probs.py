"""Log-probabilities of scored tokens and of whole answers, on which every objective stands.

Axes: B examples, T tokens, V vocabulary entries. `labels` hold the token itself where it is scored
and `ignore_index` elsewhere; token t is predicted by the logits at t - 1, so position 0 never
counts. Logits of less than single precision are summed in single precision.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    logits: jax.Array, labels: jax.Array, *, ignore_index: int = IGNORE_INDEX
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
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    return _token_logprobs(jnp.asarray(logits), labels, ignore_index)


def sequence_logprobs(
    logits: jax.Array, labels: jax.Array, *, ignore_index: int = IGNORE_INDEX
) -> SeqLogProbs:
    """log p(y | x) of each row, summed over its scored tokens, and their number.

    A row without scored tokens has log-probability 0 and length 0. Arguments and errors are those
    of `token_logprobs`.
    """
    tokens = token_logprobs(logits, labels, ignore_index=ignore_index)
    return SeqLogProbs(tokens.logp.sum(-1), tokens.mask.sum(-1, dtype=jnp.int32))


@jax.jit
def _token_logprobs(logits: jax.Array, labels: jax.Array, ignore_index: int) -> TokenLogProbs:
    labels = labels[:, 1:]
    mask = labels != ignore_index
    logits = logits[:, :-1].astype(jnp.promote_types(logits.dtype, jnp.float32))
    # Relative to the largest, so that large logits do not cancel each other's digits.
    logits = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    # A masked sum, which is fused, and whose gradient is a mask; that of indexing is a scatter.
    is_label = jnp.arange(logits.shape[-1]) == labels[..., None]
    chosen = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    logp = chosen - jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
    return TokenLogProbs(jnp.where(mask, logp, 0), mask)
