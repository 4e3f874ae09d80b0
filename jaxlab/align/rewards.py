"""Reward functions made from models, and the loss that trains one.

A reward is a callable, see `RewardFn`. Axes: n responses, P prompt tokens, T new tokens, S = P + T.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align.responses import RewardFn
from jaxlab.checks import check_equal_shapes

_CHUNK_TOKENS = 32_768  # tokens, padding included, that a model scores at once
_SHORTEST = 8

Template = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def sequence_reward(
    params: Any,
    cfg: lm.LMConfig,
    *,
    template: Template | None = None,
    label: int = 0,
    compute_dtype: Any = None,
    chunk_tokens: int = _CHUNK_TOKENS,
) -> RewardFn:
    """The score of a sequence classifier at the last token of prompt and response.

    Args:
      params, cfg: a model with a score head (`num_labels` > 0).
      template: (prompt [P], responses [n, T], lengths [n]) -> (tokens [n, S], mask [n, S]), the
        text in the reward model's own tokens: a host function that closes over both tokenizers
        and the chat template. None: the models share their tokens, the prompt stands in front.
      label: which score.
      compute_dtype: of activations.
      chunk_tokens: tokens that are scored at once, at least one row; bounds the memory.

    Raises:
      ValueError: a model without a score head, or a label that it does not have.
    """
    if not 0 <= label < cfg.num_labels:
        raise ValueError(
            f"label {label} of a model with num_labels {cfg.num_labels}; a reward model needs a "
            "score head (load a sequence classifier)"
        )
    template = template or prompt_and_response

    def score(tokens, mask):
        return _label_scores(params, tokens, mask, cfg=cfg, label=label, dtype=compute_dtype)

    def reward(prompt, responses, lengths):
        return in_chunks(score, *template(prompt, responses, lengths), chunk_tokens=chunk_tokens)

    return reward


def perplexity_reward(
    params: Any, cfg: lm.LMConfig, *, lora: Any = None, compute_dtype: Any = None
) -> RewardFn:
    """-exp(mean negative log-likelihood of the response's tokens): minus its perplexity.

    The language model is its own reward; log-probabilities are float32, the prompt does not count.
    """

    def reward(prompt, responses, lengths):
        def score(tokens, mask):
            return _negative_perplexity(
                params, lora, tokens, mask, np.int32(len(prompt)), cfg=cfg, dtype=compute_dtype
            )

        return in_chunks(score, *prompt_and_response(prompt, responses, lengths))

    return reward


def reward_from_tokens(f: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> RewardFn:
    """The reward of a function of whole sequences, f(tokens [n, S], lengths [n]) -> scores [n]."""

    def reward(prompt, responses, lengths):
        tokens, _ = prompt_and_response(prompt, responses, lengths)
        return f(tokens, np.asarray(lengths, np.int32) + np.int32(len(prompt)))

    return reward


def bradley_terry_loss(chosen: jax.Array, rejected: jax.Array) -> jax.Array:
    """Mean of -log sigmoid(chosen - rejected) over pairs [B] (Bradley and Terry 1952).

    Raises ValueError for unequal shapes.
    """
    check_equal_shapes(chosen=chosen, rejected=rejected)
    return jnp.mean(jax.nn.softplus(rejected - chosen))


def prompt_and_response(
    prompt: np.ndarray, responses: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens [n, P + T], mask [n, P + T]): the prompt in front of every response."""
    prompt, responses = np.asarray(prompt, np.int32), np.asarray(responses, np.int32)
    tokens = np.hstack([np.tile(prompt, (len(responses), 1)), responses])
    mask = np.arange(tokens.shape[1]) < len(prompt) + np.asarray(lengths)[:, None]
    return tokens, mask


def in_chunks(
    score: Callable[[Any, Any], jax.Array],
    tokens: np.ndarray,
    mask: np.ndarray,
    *,
    chunk_tokens: int = _CHUNK_TOKENS,
) -> np.ndarray:
    """score(tokens [c, S], mask [c, S]) -> [c] over all rows, a bounded number of tokens at a time.

    Rows and length are padded to powers of two, so that few programs are compiled.
    """
    count, length = tokens.shape
    width = max(_SHORTEST, _power_of_two(length))
    height = min(_power_of_two(count), max(1, _power_of_two(chunk_tokens // width + 1) // 2))
    missing = ((0, -count % height), (0, width - length))
    tokens, mask = np.pad(tokens, missing), np.pad(mask, missing)
    scores = [
        score(tokens[first : first + height], mask[first : first + height])
        for first in range(0, len(tokens), height)
    ]
    return np.concatenate(jax.device_get(scores))[:count]


def _power_of_two(n: int) -> int:
    """The smallest power of two >= n >= 1."""
    return 1 << (n - 1).bit_length()


@functools.partial(jax.jit, static_argnames=("cfg", "label", "dtype"))
def _label_scores(params, tokens, mask, *, cfg, label, dtype):
    return lm.sequence_scores(params, cfg, tokens, attention_mask=mask, compute_dtype=dtype)[
        :, label
    ]


@functools.partial(jax.jit, static_argnames=("cfg", "dtype"))
def _negative_perplexity(params, lora, tokens, mask, prompt_len, *, cfg, dtype):
    is_response = jnp.arange(tokens.shape[1]) >= prompt_len
    total, count = lm.sequence_log_probs(
        params,
        cfg,
        tokens,
        loss_mask=mask & is_response,
        attention_mask=mask,
        lora=lora,
        compute_dtype=dtype,
    )
    return -jnp.exp(-total / jnp.maximum(count, 1))
