"""Text generation: a prompt into the cache, then the decoding loop, in one compiled program.

Axes: B rows, T prompt slots, N new tokens, V vocabulary entries. Prompts are left-padded to a few
lengths (powers of two), so that a prompt of a new length does not compile a new program.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.checks import check_at_least, check_equal_shapes
from jaxlab.lm.cache import KVCache, extend, init_cache, split_cache, split_layers
from jaxlab.lm.config import LMConfig, stop_tokens
from jaxlab.lm.decoding import (
    GenerateResult,
    Progress,
    check_new_tokens,
    decode_on,
    start_progress,
)
from jaxlab.lm.masks import check_ids
from jaxlab.lm.sampling import UNFILTERED, SamplingConfig, mark_seen
from jaxlab.user_files import read_json

_SHORTEST_BUCKET = 16


def generate(
    key: jax.Array,
    params: Any,
    cfg: LMConfig,
    tokens: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    max_new_tokens: int,
    sampling: SamplingConfig = UNFILTERED,
    eos_ids: int | Iterable[int] | None = None,
    pad_id: int | None = None,
    stop_sequences: Iterable[Sequence[int]] = (),
    lora: Any = None,
    compute_dtype: Any = None,
    cache_dtype: Any = None,
) -> GenerateResult:
    """Continues every prompt by up to `max_new_tokens` tokens.

    A row's tokens depend on its prompt and key alone, not on the other rows or on padding. Logits
    that are NaN (broken weights) are not detected: they give token ids without meaning.

    Args:
      key: a typed key (row b uses `fold_in(key, b)`) or one key per row, [B].
      params: the model's parameters.
      cfg: static.
      tokens: [B, T] integer prompts, padded anywhere.
      attention_mask: [B, T] bool or 0/1, what of `tokens` counts; None: all.
      max_new_tokens: N; static.
      sampling: static; the repetition penalty counts the prompt's ids as seen.
      eos_ids: stop tokens; None: those of `cfg`.
      pad_id: fills a row after its end; None: that of `cfg`, else the first stop token, else 0.
      stop_sequences: token sequences that end a row as stop tokens do.
      lora: adapters, see `init_lora`.
      compute_dtype: of activations and weights inside the model.
      cache_dtype: of the cached keys and values; None: `compute_dtype`, else the parameters'.

    Returns:
      GenerateResult.

    Raises:
      ValueError: tokens not [B, T] integers or not below V, a mask of another shape, an empty
        prompt row, a key of another shape, max_new_tokens <= 0, or
        T + max_new_tokens > max_seq_len. What depends on the values of `tokens` and
        `attention_mask` cannot be checked under `jit`.
    """
    prompt = _prepare(key, cfg, tokens, attention_mask, max_new_tokens)
    stops = _stops(cfg, eos_ids, stop_sequences)
    program = _Program(cfg, sampling, stops, compute_dtype, cache_dtype)
    padding = _padding(cfg, eos_ids, pad_id)
    return _generate(program, max_new_tokens, key, params, lora, prompt, padding)


def stream_generate(
    key: jax.Array,
    params: Any,
    cfg: LMConfig,
    tokens: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    max_new_tokens: int,
    sampling: SamplingConfig = UNFILTERED,
    eos_ids: int | Iterable[int] | None = None,
    pad_id: int | None = None,
    stop_sequences: Iterable[Sequence[int]] = (),
    lora: Any = None,
    compute_dtype: Any = None,
    cache_dtype: Any = None,
    chunk: int = 16,
) -> Iterator[np.ndarray]:
    """The tokens of `generate` as they arrive: an iterator of blocks [B, <= chunk] int32.

    The blocks joined are the first `steps` columns of `generate(...).tokens` with the same
    arguments. Raises ValueError as `generate` does, at the call.
    """
    check_at_least("chunk", chunk, 1)
    prompt = _prepare(key, cfg, tokens, attention_mask, max_new_tokens)
    stops = _stops(cfg, eos_ids, stop_sequences)
    program = _Program(cfg, sampling, stops, compute_dtype, cache_dtype)
    padding = _padding(cfg, eos_ids, pad_id)

    def blocks() -> Iterator[np.ndarray]:
        state = _start(program, max_new_tokens, params, lora, prompt)
        for start in range(0, max_new_tokens, chunk):
            count = min(chunk, max_new_tokens - start)
            result, state = _stretch(program, count, key, params, lora, state, start, padding)
            yield np.asarray(result.tokens)[:, : int(result.steps)]
            if np.all(state.progress.ended):
                return

    return blocks()


def generation_defaults(path: str | PathLike) -> dict[str, Any]:
    """The arguments of `generate` that a folder's `generation_config.json` sets.

    Returns:
      A dict with "sampling" and, where the file has them, "eos_ids", "pad_id" and
      "max_new_tokens"; empty when there is no file. As in transformers, `do_sample` false or
      absent means greedy and top_k is 50 where sampling is on and the file does not say.
    """
    file = Path(path) / "generation_config.json"
    if not file.is_file():
        return {}
    given = {k: v for k, v in read_json(file).items() if v is not None}
    filters = {"temperature": 0.0}
    if given.get("do_sample"):
        names = ("temperature", "top_k", "top_p", "min_p")
        filters = {"top_k": 50} | {name: given[name] for name in names if name in given}
    if "repetition_penalty" in given:
        filters["repetition_penalty"] = given["repetition_penalty"]
    defaults: dict[str, Any] = {"sampling": SamplingConfig(**filters)}
    if "eos_token_id" in given:
        defaults["eos_ids"] = stop_tokens(given["eos_token_id"])
    for name, key in (("pad_id", "pad_token_id"), ("max_new_tokens", "max_new_tokens")):
        if key in given:
            defaults[name] = given[key]
    return defaults


class _Program(NamedTuple):
    """What, beside shapes, decides which program is compiled; hashable."""

    cfg: LMConfig
    sampling: SamplingConfig
    stops: tuple[tuple[int, ...], ...]
    compute_dtype: Any
    cache_dtype: Any


class _Prompt(NamedTuple):
    """tokens [B, T] int32 and mask [B, T] bool, left-padded to a bucket."""

    tokens: jax.Array
    mask: jax.Array


class _State(NamedTuple):
    """Between two stretches of a stream; donated from one to the next."""

    logits: jax.Array
    cache: KVCache
    progress: Progress


def _prepare(key, cfg: LMConfig, tokens, attention_mask, max_new_tokens: int) -> _Prompt:
    """Checks a prompt and pads it; on the host unless it is traced."""
    check_new_tokens(max_new_tokens)
    traced = not is_concrete(tokens, attention_mask)
    xp = jnp if traced else np
    tokens = xp.asarray(tokens)
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be [B, T] integers, got {tokens.dtype}{tokens.shape}")
    batch_size, length = tokens.shape
    mask = xp.ones(tokens.shape, bool) if attention_mask is None else xp.asarray(attention_mask)
    check_equal_shapes(tokens=tokens, attention_mask=mask)
    if length == 0:
        raise ValueError("the prompt is empty; give every row at least one token (such as bos)")
    if length + max_new_tokens > cfg.max_seq_len:
        raise ValueError(
            f"prompt of {length} and max_new_tokens of {max_new_tokens} exceed the model's "
            f"max_seq_len of {cfg.max_seq_len}; shorten one of them"
        )
    mask = mask.astype(bool)
    if not traced:
        _check_values(cfg, tokens, mask)
    _check_key(key, batch_size)
    padding = ((0, 0), (prompt_bucket(cfg, length, max_new_tokens) - length, 0))
    return _Prompt(xp.pad(tokens.astype(xp.int32), padding), xp.pad(mask, padding))


def _check_values(cfg: LMConfig, tokens: np.ndarray, mask: np.ndarray):
    empty = np.flatnonzero(~mask.any(axis=1))
    if empty.size:
        raise ValueError(
            f"prompt row {empty[0]} is empty; give every row at least one token (such as bos)"
        )
    check_ids(cfg, tokens, mask)


def _check_key(key, batch_size: int):
    if not jnp.issubdtype(getattr(key, "dtype", object), jax.dtypes.prng_key):
        raise ValueError("key must be typed: make it with jax.random.key, not PRNGKey")
    if key.shape not in ((), (batch_size,)):
        raise ValueError(
            f"key has shape {key.shape}; pass one key, or one per row with shape ({batch_size},)"
        )


def prompt_bucket(cfg: LMConfig, length: int, max_new_tokens: int) -> int:
    """The padded length of a prompt of `length`: a power of two where the model has room for it.

    Where the cache's size decides on the rotary frequencies (longrope), padding does not move it
    over the threshold.
    """
    limit = cfg.max_seq_len - max_new_tokens
    scaling = cfg.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        short = scaling.original_max_seq_len - max_new_tokens
        limit = short if length <= short else limit
    return min(max(_SHORTEST_BUCKET, 1 << (length - 1).bit_length()), limit)


def _stops(cfg: LMConfig, eos_ids, stop_sequences) -> tuple[tuple[int, ...], ...]:
    single = stop_tokens(cfg.eos_ids if eos_ids is None else eos_ids)
    longer = tuple(stop_tokens(sequence) for sequence in stop_sequences)
    if not all(longer):
        raise ValueError("stop_sequences holds an empty sequence; remove it")
    return tuple((token,) for token in single) + longer


def _padding(cfg: LMConfig, eos_ids, pad_id: int | None) -> int:
    stops = stop_tokens(cfg.eos_ids if eos_ids is None else eos_ids)
    return next((i for i in (pad_id, cfg.pad_id, *stops[:1]) if i is not None), 0)


@partial(jax.jit, static_argnums=(0, 1))
def _start(program: _Program, max_new_tokens: int, params, lora, prompt: _Prompt) -> _State:
    """The prompt in a cache with room for `max_new_tokens` more, and the first logits."""
    cfg, sampling, stops, compute_dtype, cache_dtype = program
    batch_size, length = prompt.tokens.shape
    dtype = cache_dtype or compute_dtype or params["embed"]["w"].dtype
    logits, cache = extend(
        params,
        cfg,
        prompt.tokens,
        init_cache(cfg, batch_size, length + max_new_tokens, dtype),
        attention_mask=prompt.mask,
        lora=lora,
        compute_dtype=compute_dtype,
        last_only=True,
    )
    seen = None
    if sampling.repetition_penalty != 1.0:
        seen = mark_seen(jnp.zeros(logits.shape, bool), prompt.tokens, prompt.mask)
    if jax.default_backend() == "cpu":
        cache = split_cache(cache)
    return _State(logits, cache, start_progress(logits, sampling, stops, seen))


def _continue(
    program: _Program, max_new_tokens: int, key, params, lora, state: _State, start, pad_id
) -> tuple[GenerateResult, _State]:
    """The next `max_new_tokens` tokens, of which the first has the number `start`."""
    if jax.default_backend() == "cpu":
        params = split_layers(params)
    row_keys = key
    if key.ndim == 0:
        rows = jnp.arange(state.logits.shape[0])
        row_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)

    def step(tokens, cache):
        return extend(
            params,
            program.cfg,
            tokens[:, None],
            cache,
            lora=lora,
            compute_dtype=program.compute_dtype,
            last_only=True,
        )

    result, *rest = decode_on(
        row_keys,
        step,
        *state,
        start,
        pad_id,
        max_new_tokens=max_new_tokens,
        sampling=program.sampling,
        stops=program.stops,
    )
    return result, _State(*rest)


_stretch = jax.jit(_continue, static_argnums=(0, 1), donate_argnames="state")


@partial(jax.jit, static_argnums=(0, 1))
def _generate(
    program: _Program, max_new_tokens: int, key, params, lora, prompt: _Prompt, pad_id
) -> GenerateResult:
    state = _start(program, max_new_tokens, params, lora, prompt)
    return _continue(program, max_new_tokens, key, params, lora, state, 0, pad_id)[0]
