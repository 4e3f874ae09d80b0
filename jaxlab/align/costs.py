"""What a search costs: cache bytes, slots in use, FLOPs."""

import itertools
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align.schedule import PlannedRound
from jaxlab.align.speculative import RoundStats

Rounds = Sequence[RoundStats] | Sequence[PlannedRound]


def kv_bytes_per_token(cfg: lm.LMConfig, dtype=jnp.bfloat16) -> int:
    """2 L K d itemsize: bytes that keys and values of one token take in the cache."""
    return 2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim * jnp.dtype(dtype).itemsize


def token_capacity(cfg: lm.LMConfig, budget_bytes: int, dtype=jnp.bfloat16) -> int:
    """Cache slots that fit into `budget_bytes`, the `capacity_tokens` of a search.

    While rows are gathered the old and the new cache exist at once, both full: give half of what
    is free.
    """
    return int(budget_bytes // kv_bytes_per_token(cfg, dtype))


def peak_slots(rounds: Rounds, prompt_len: int) -> tuple[int, int]:
    """(largest number of cache slots in any round, the same with the gather that leads to it)."""
    held = [r.bucket * (prompt_len + r.start_length + r.new_tokens) for r in rounds]
    both = [old + new for old, new in itertools.pairwise(held)]
    return max(held), max(both, default=held[0])


def slots_by_step(rounds: Rounds, prompt_len: int) -> np.ndarray:
    """Slots in use by active rows after every decode step, [steps]."""
    used = [
        r.active * (prompt_len + r.start_length + np.arange(1, r.new_tokens + 1)) for r in rounds
    ]
    return np.concatenate(used)


def generation_flops(cfg: lm.LMConfig, rounds: Rounds, prompt_len: int) -> float:
    """FLOPs of the decode steps of all rows computed, see `lm.flops_per_token`.

    Best-of-n is one round of n rows: `PlannedRound(n, n, 0, max_new_tokens)`. The prompt, which is
    prefilled once, is left out.
    """
    return sum(
        r.bucket * _span_flops(cfg, prompt_len + r.start_length, r.new_tokens) for r in rounds
    )


def reward_flops(cfg: lm.LMConfig, scored: Iterable[tuple[int, int]]) -> float:
    """FLOPs of a reward model of `cfg` that reads `rows` sequences of `length` from scratch.

    scored: (rows, length) of every call; prompt included in the length.
    """
    return sum(rows * _span_flops(cfg, 0, length) for rows, length in scored)


def _span_flops(cfg: lm.LMConfig, before: int, count: int) -> float:
    """FLOPs of `count` tokens of one row, the first at context before + 1: linear in context."""
    return count * lm.flops_per_token(cfg, before + (count + 1) / 2)
