"""A policy: any autoregressive sampler of which rows can be dropped, and the one of `jaxlab.lm`.

Axes: n rows, P prompt tokens, V vocabulary entries.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.lm.cache import join_cache, split_cache, split_layers
from jaxlab.lm.sampling import UNFILTERED, mark_seen


class Policy(NamedTuple):
    """Three functions that a search calls as they are, positionally; a state is theirs alone.

    start: (row_keys [n], prompt [P] int32, max_len) -> state. Token t of a row is drawn with
        fold_in(row_key, t); buffers must hold max_len = P + new tokens per row.
    extend: (state, n_tokens) -> (state, tokens [n, n_tokens] int32, logprobs [n, n_tokens]
        float32). Log-probabilities (nats) are the model's at temperature 1. A policy does not
        stop at a stop token: who calls it cuts. The old state is used up.
    gather: (state, rows [m] int32, max_len) -> state of those rows (repeats allowed) with buffers
        for max_len.
    """

    start: Callable
    extend: Callable
    gather: Callable


class LMState(NamedTuple):
    """Between two segments of a generation.

    row_keys: [n]. step: int32, new tokens so far. logits: [n, V] float32 for the next token.
    cache: keys and values. seen: [n, V] bool ids for the repetition penalty, None when it is off.
    """

    row_keys: jax.Array
    step: jax.Array
    logits: jax.Array
    cache: lm.KVCache
    seen: jax.Array | None


def lm_policy(
    params: Any,
    cfg: lm.LMConfig,
    *,
    sampling: lm.SamplingConfig = UNFILTERED,
    compute_dtype: Any = None,
    cache_dtype: Any = None,
    lora: Any = None,
    prompt_pad_id: int | None = None,
) -> Policy:
    """The policy of a language model; its programs are shared by all policies of one `cfg`.

    The cache has exactly max_len slots. While rows are gathered the old cache is read as the new
    one is written: at the peak both exist, twice the capacity of a search that keeps it full.

    Args:
      params: the model's parameters; not donated.
      cfg: static.
      sampling: static, see `lm.SamplingConfig`.
      compute_dtype: of activations; None: the parameters'.
      cache_dtype: of keys and values; None: `compute_dtype`, else the parameters'.
      lora: adapters.
      prompt_pad_id: leading prompt tokens of this id are padding, neither seen nor counted:
        prompts padded on the left to a few lengths share their programs.

    Returns:
      A Policy whose `gather` takes `row_keys=` as well, to give repeated rows keys of their own.

    Raises:
      ValueError: by `start`, for prompt ids outside the vocabulary; by `start` and `gather`, for
        more than cfg.max_seq_len tokens, and for a longrope model beyond its original length (its
        frequencies depend on the cache's size, which grows).
    """
    if cfg.num_labels:
        raise ValueError("a model with a score head draws no tokens; pass a causal language model")
    dtype = cache_dtype or compute_dtype or params["embed"]["w"].dtype
    setting = _Setting(cfg, sampling, compute_dtype, dtype)

    def start(row_keys, prompt, max_len):
        _check_length(cfg, max_len)
        prompt = np.asarray(prompt, np.int32)
        mask = np.ones(prompt.shape, bool)
        if prompt_pad_id is not None:
            mask = np.cumsum(prompt != prompt_pad_id) > 0
        lm.check_ids(cfg, prompt, mask)
        one_row = _prefill(setting, params, lora, row_keys[:1], prompt[None], mask[None])
        state = _gather(one_row, jnp.zeros(row_keys.shape[0], jnp.int32), max_len)
        # A copy: `extend` donates the state, and the keys are the caller's.
        return state._replace(row_keys=jnp.copy(row_keys))

    def extend(state, n_tokens):
        return _extend(setting, n_tokens, params, lora, state)

    def gather(state, rows, max_len, row_keys=None):
        _check_length(cfg, max_len)
        state = _gather(state, jnp.asarray(rows, jnp.int32), max_len)
        return state if row_keys is None else state._replace(row_keys=jnp.copy(row_keys))

    return Policy(start, extend, gather)


def row_keys(key: jax.Array, n: int, *, first: int = 0) -> jax.Array:
    """Keys [n] of rows first, first + 1, ...: fold_in(key, i), whichever rows run beside."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(n))


class _Setting(NamedTuple):
    """What, beside shapes, decides which program is compiled; hashable."""

    cfg: lm.LMConfig
    sampling: lm.SamplingConfig
    compute_dtype: Any
    cache_dtype: Any


def _check_length(cfg: lm.LMConfig, max_len: int):
    limit, name = cfg.max_seq_len, "max_seq_len"
    if cfg.rope_scaling is not None and cfg.rope_scaling.kind == "longrope":
        limit, name = cfg.rope_scaling.original_max_seq_len, "original_max_seq_len (longrope)"
    if max_len > limit:
        raise ValueError(
            f"prompt and new tokens need {max_len} positions, more than the model's {name} of "
            f"{limit}; shorten the prompt or lower max_new_tokens"
        )


@functools.partial(jax.jit, static_argnums=0)
def _prefill(setting: _Setting, params, lora, row_keys, prompt, mask) -> LMState:
    """The prompt in a cache of one row, and the logits after it."""
    cfg = setting.cfg
    logits, cache = lm.extend(
        params,
        cfg,
        prompt,
        lm.init_cache(cfg, 1, prompt.shape[1], setting.cache_dtype),
        attention_mask=mask,
        lora=lora,
        compute_dtype=setting.compute_dtype,
        last_only=True,
    )
    seen = None
    if setting.sampling.repetition_penalty != 1.0:
        seen = mark_seen(jnp.zeros(logits.shape, bool), prompt, mask)
    return LMState(row_keys, jnp.int32(0), logits, cache, seen)


@functools.partial(jax.jit, static_argnames="max_len")
def _gather(state: LMState, rows: jax.Array, max_len: int) -> LMState:
    return LMState(
        row_keys=state.row_keys[rows],
        step=state.step,
        logits=state.logits[rows],
        cache=lm.resize_cache(lm.take_rows(state.cache, rows), max_len),
        seen=None if state.seen is None else state.seen[rows],
    )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnames="state")
def _extend(setting: _Setting, n_tokens: int, params, lora, state: LMState):
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        params = split_layers(params)

    def step(tokens, cache):
        return lm.extend(
            params,
            setting.cfg,
            tokens[:, None],
            cache,
            lora=lora,
            compute_dtype=setting.compute_dtype,
            last_only=True,
        )

    result, logits, cache = lm.decode(
        state.row_keys,
        step,
        state.logits,
        split_cache(state.cache) if on_cpu else state.cache,
        max_new_tokens=n_tokens,
        sampling=setting.sampling,
        start=state.step,
        seen=state.seen,
    )
    seen = state.seen
    if seen is not None:
        seen = mark_seen(seen, result.tokens)
    cache = join_cache(cache) if on_cpu else cache
    new = LMState(state.row_keys, state.step + n_tokens, logits, cache, seen)
    return new, result.tokens, result.logprobs
