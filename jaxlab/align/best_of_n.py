"""Best-of-N: draw N responses, score them, take the best."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.align.policy import Policy, row_keys
from jaxlab.align.responses import RewardFn, best_first, check_prompt, cut_at_stop, score_rows
from jaxlab.checks import check_at_least
from jaxlab.lm.config import stop_tokens

_FIRST_SLOTS = 64  # cache slots a row starts with; they double as it grows


class BestOfNResult(NamedTuple):
    """The best of n responses, all of them, and what they cost.

    tokens: [max_new_tokens] int32, padded. length, score, row: of the best.
    all_tokens: [n, max_new_tokens]. all_lengths: [n]. all_scores: [n] float64.
    tokens_generated: up to and including stop tokens. tokens_computed: decode steps times rows.
    reward_tokens: prompt and response tokens that were scored.
    """

    tokens: np.ndarray
    length: int
    score: float
    row: int
    all_tokens: np.ndarray
    all_lengths: np.ndarray
    all_scores: np.ndarray
    tokens_generated: int
    tokens_computed: int
    reward_tokens: int


def best_of_n(
    key: jax.Array,
    policy: Policy,
    reward_fn: RewardFn,
    prompt: np.ndarray,
    *,
    n: int,
    max_new_tokens: int,
    batch_size: int | None = None,
    eos_ids: int | Iterable[int] = (),
    pad_id: int = 0,
) -> BestOfNResult:
    """argmax over n responses of the reward (Stiennon et al. 2020); ties go to the smaller row.

    Row i draws with fold_in(key, i), so the first n rows of a larger N are those of n, and
    `all_scores` serves every smaller N at once (`expected_max`). The cache starts small and
    doubles, so that early steps do not attend to empty slots; a batch ends when all its rows have.

    Args:
      key: a typed key.
      policy, reward_fn: see `Policy` and `RewardFn`.
      prompt: [P] int32.
      n: number of responses.
      max_new_tokens: where a response is cut.
      batch_size: rows at a time; None: all.
      eos_ids: stop tokens.
      pad_id: fills a response after its stop token.

    Raises:
      ValueError: n, max_new_tokens or batch_size <= 0; a bad prompt; a bad reward.
    """
    prompt = check_prompt(prompt)
    batch_size = n if batch_size is None else batch_size
    sizes = {"n": n, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    for name, value in sizes.items():
        check_at_least(name, value, 1)
    eos_ids = stop_tokens(eos_ids)
    tokens, lengths, scores, computed = [], [], [], 0
    for first in range(0, n, batch_size):
        rows = np.arange(first, min(first + batch_size, n))
        keys = row_keys(key, len(rows), first=first)
        drawn, ends, steps = _generate(policy, keys, prompt, max_new_tokens, eos_ids, pad_id)
        tokens.append(drawn)
        lengths.append(ends)
        scores.append(score_rows(reward_fn, prompt, drawn, ends, rows))
        computed += len(rows) * steps
    joined = np.concatenate(tokens), np.concatenate(lengths), np.concatenate(scores)
    return collect(prompt, *joined, computed)


def collect(
    prompt: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    scores: np.ndarray,
    tokens_computed: int,
) -> BestOfNResult:
    """The result for scored responses [n, max_new_tokens]."""
    best = best_first(scores)[0]
    generated = int(lengths.sum())
    return BestOfNResult(
        tokens=tokens[best],
        length=int(lengths[best]),
        score=float(scores[best]),
        row=int(best),
        all_tokens=tokens,
        all_lengths=lengths,
        all_scores=scores,
        tokens_generated=generated,
        tokens_computed=tokens_computed,
        reward_tokens=len(scores) * prompt.size + generated,
    )


def _generate(policy, keys, prompt, max_new_tokens, eos_ids, pad_id):
    """(tokens [n, max_new_tokens], lengths [n], decode steps) of one batch."""
    count, total = len(keys), prompt.size + max_new_tokens
    slots = min(max(_FIRST_SLOTS, 2 * prompt.size), total)
    state = policy.start(keys, prompt, slots)
    tokens = np.full((count, max_new_tokens), pad_id, np.int32)
    done = 0
    while True:
        size = slots - prompt.size - done
        state, drawn, _ = policy.extend(state, size)
        tokens[:, done : done + size] = drawn
        done += size
        cut, lengths, ended = cut_at_stop(tokens[:, :done], eos_ids, pad_id)
        if done == max_new_tokens or ended.all():
            tokens[:, :done] = cut
            return tokens, lengths, done
        slots = min(2 * slots, total)
        state = policy.gather(state, np.arange(count, dtype=np.int32), slots)
