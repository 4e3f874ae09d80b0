"""The one decoding loop: any step function, any carry, one compiled program.

Axes: B rows, N new tokens, V vocabulary entries.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from jaxlab.checks import check_at_least
from jaxlab.lm.config import stop_tokens
from jaxlab.lm.sampling import (
    UNFILTERED,
    SamplingConfig,
    check_row_keys,
    mark_seen,
    sample,
)

StepFn = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


class GenerateResult(NamedTuple):
    """What a decoding loop produced.

    Attributes:
      tokens: [B, N] int32; the stop token is included, `pad_id` follows it.
      lengths: [B] int32, tokens of each row up to and including its stop token.
      logprobs: [B, N] float32, log-probabilities (nats) under the model itself, at temperature 1
        and unfiltered; 0 after the end.
      sample_logprobs: [B, N] float32, the same under the distribution that was drawn from.
      steps: int32, decode steps run, which is max(lengths).
    """

    tokens: jax.Array
    lengths: jax.Array
    logprobs: jax.Array
    sample_logprobs: jax.Array
    steps: jax.Array


class Progress(NamedTuple):
    """What one stretch of a generation must hand to the next, beside logits and carry.

    Attributes:
      ended: [B] bool, rows that have met a stop.
      recent: [B, W] int32, the last W new tokens (-1: none yet), W the longest stop sequence.
      seen: [B, V] bool ids for the repetition penalty, or None when it is off.
    """

    ended: jax.Array
    recent: jax.Array
    seen: jax.Array | None


def decode(
    row_keys: jax.Array,
    step_fn: StepFn,
    logits: jax.Array,
    carry: Any,
    *,
    max_new_tokens: int,
    sampling: SamplingConfig = UNFILTERED,
    eos_ids: int | Iterable[int] = (),
    pad_id: int = 0,
    start: int | jax.Array = 0,
    seen: jax.Array | None = None,
    ended: jax.Array | None = None,
) -> tuple[GenerateResult, jax.Array, Any]:
    """Draws up to `max_new_tokens` tokens per row, feeding each to `step_fn`.

    Token t of a row uses `fold_in(row_key, start + t)`, so a row's tokens do not depend on the
    other rows, and a second call that starts where the first ended continues it exactly for
    rows that have not met a stop token. The loop ends early when all rows have. `step_fn` is
    called once for every token of the result, the last included: a cache needs
    `max_new_tokens` free slots.

    The program is compiled once per `step_fn` object; pass the same function again to reuse it.
    Arrays that a `step_fn` closes over are constants of the program outside `jit`; a
    `jax.tree_util.Partial(f, params)` makes them arguments, as does calling `decode` under `jit`.

    Args:
      row_keys: [B] typed keys.
      step_fn: (tokens [B] int32, carry) -> (logits [B, V], carry of the same structure).
      logits: [B, V] for the first token.
      carry: any pytree (a KV cache, two models' caches, a counter).
      max_new_tokens: N; static.
      sampling: static.
      eos_ids: stop tokens; static.
      pad_id: fills a row after its stop token, and is what `step_fn` is fed there (that row's
        later logits and carry are meaningless).
      start: number of the first token; may be traced.
      seen: [B, V] bool, ids seen before this call; the call's own are added inside.
      ended: [B] bool, rows that get `pad_id` alone, as if they had met a stop token before.

    Returns:
      (GenerateResult, logits [B, V] float32, carry) with the logits and carry after the last
      token. Arguments are not donated.

    Raises:
      ValueError: max_new_tokens <= 0, logits not [B, V], or keys or `ended` of another shape.
    """
    check_new_tokens(max_new_tokens)
    if jnp.ndim(logits) != 2:
        raise ValueError(f"logits must be [B, V], got shape {jnp.shape(logits)}")
    check_row_keys(row_keys, logits.shape[0])
    stops = tuple((token,) for token in stop_tokens(eos_ids))
    progress = start_progress(logits, sampling, stops, seen)
    if ended is not None:
        if jnp.shape(ended) != logits.shape[:1]:
            raise ValueError(f"ended must be [{logits.shape[0]}], got shape {jnp.shape(ended)}")
        progress = progress._replace(ended=jnp.asarray(ended, bool))
    if not isinstance(step_fn, Partial):
        step_fn = Partial(step_fn)
    result, logits, carry, _ = _compiled_decode_on(
        row_keys,
        step_fn,
        logits,
        carry,
        progress,
        start,
        pad_id,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stops=stops,
    )
    return result, logits, carry


def check_new_tokens(max_new_tokens: int):
    """Raises ValueError unless max_new_tokens is positive."""
    check_at_least("max_new_tokens", max_new_tokens, 1)


def start_progress(
    logits: jax.Array,
    sampling: SamplingConfig,
    stops: tuple[tuple[int, ...], ...],
    seen: jax.Array | None,
) -> Progress:
    """The Progress of a generation that has not begun; `seen` is kept if the penalty needs it."""
    if sampling.repetition_penalty == 1.0:
        seen = None
    elif seen is None:
        seen = jnp.zeros(logits.shape, bool)
    width = max((len(stop) for stop in stops), default=1)
    batch_size = logits.shape[0]
    return Progress(jnp.zeros(batch_size, bool), jnp.full((batch_size, width), -1, jnp.int32), seen)


def decode_on(
    row_keys: jax.Array,
    step_fn: StepFn,
    logits: jax.Array,
    carry: Any,
    progress: Progress,
    start: int | jax.Array,
    pad_id: int | jax.Array,
    *,
    max_new_tokens: int,
    sampling: SamplingConfig,
    stops: tuple[tuple[int, ...], ...],
) -> tuple[GenerateResult, jax.Array, Any, Progress]:
    """`decode` in stretches: the loop itself, with everything that a next stretch needs.

    Args are those of `decode`; `stops` are the token sequences that end a row (a stop token is a
    sequence of one). A sequence may begin in an earlier stretch.
    """
    batch_size = logits.shape[0]
    block = (batch_size, max_new_tokens)
    empty = GenerateResult(
        tokens=jnp.full(block, pad_id, jnp.int32),
        lengths=jnp.zeros(batch_size, jnp.int32),
        logprobs=jnp.zeros(block, jnp.float32),
        sample_logprobs=jnp.zeros(block, jnp.float32),
        steps=jnp.int32(0),
    )

    def unfinished(state):
        result, _, _, progress = state
        return (result.steps < max_new_tokens) & ~jnp.all(progress.ended)

    def step(state):
        result, logits, carry, progress = state
        t, running = result.steps, ~progress.ended
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(row_keys, start + t)
        drawn, processed = sample(keys, logits, sampling, seen=progress.seen)
        tokens = jnp.where(running, drawn, jnp.int32(pad_id))
        result = GenerateResult(
            tokens=result.tokens.at[:, t].set(tokens),
            lengths=result.lengths + running,
            logprobs=result.logprobs.at[:, t].set(jnp.where(running, _log_prob(logits, drawn), 0)),
            sample_logprobs=result.sample_logprobs.at[:, t].set(
                jnp.where(running, _log_prob(processed, drawn), 0)
            ),
            steps=t + 1,
        )
        progress = _advance(progress, tokens, stops)
        logits, carry = step_fn(tokens, carry)
        return result, logits.astype(jnp.float32), carry, progress

    state = (empty, logits.astype(jnp.float32), carry, progress)
    return lax.while_loop(unfinished, step, state)


_compiled_decode_on = jax.jit(decode_on, static_argnames=("max_new_tokens", "sampling", "stops"))


def _advance(progress: Progress, tokens: jax.Array, stops: tuple[tuple[int, ...], ...]) -> Progress:
    """Progress after `tokens` [B]."""
    recent = jnp.concatenate([progress.recent[:, 1:], tokens[:, None]], axis=1)
    ended = progress.ended
    for stop in stops:
        ended |= jnp.all(recent[:, -len(stop) :] == jnp.array(stop, jnp.int32), axis=1)
    seen = progress.seen
    if seen is not None:
        seen = mark_seen(seen, tokens[:, None], ~progress.ended[:, None])
    return Progress(ended, recent, seen)


def _log_prob(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Log-probability [B] of `tokens` [B] under softmax(`logits` [B, V])."""
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=1)
