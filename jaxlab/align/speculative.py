"""Speculative rejection: Best-of-N that stops generating what will not win.

Hanshi Sun*, Momin Haider*, Ruiqi Zhang*, Huitao Yang, Jiahao Qiu, Ming Yin, Mengdi Wang, Peter L.
Bartlett, Andrea Zanette*, "Fast Best-of-N Decoding via Speculative Rejection", NeurIPS 2024, arXiv
2410.20290, Algorithm 1.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.align.policy import Policy, row_keys
from jaxlab.align.responses import RewardFn, best_first, check_prompt, cut_at_stop, score_rows
from jaxlab.align.schedule import (
    SpecRejConfig,
    check_capacity,
    initial_rows,
    n_keep,
    plan_round,
)


class RoundStats(NamedTuple):
    """One round.

    index: from 0. active: rows generated and scored. bucket: rows of the batch, padding included.
    start_length: new tokens before the round. new_tokens: decode steps. finished: rows that ended
    in this round (all in the last). kept: n_keep(active, alpha). cutoff: the kept-th best score.
    best: the best score. seconds: wall time, compilation included.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    active: int
    bucket: int
    start_length: int
    new_tokens: int
    finished: int
    kept: int
    cutoff: float
    best: float
    seconds: float


class SpecRejResult(NamedTuple):
    """The best finished response, the pool it was chosen from, and what the search cost.

    tokens: [max_new_tokens] int32, padded. length, score, row: of the best; row i is row i of
    `best_of_n` with the same key. pool_tokens: [m, max_new_tokens], pool_lengths, pool_scores,
    pool_rows: [m]. tokens_generated: of active rows, up to and including stop tokens.
    tokens_computed: decode steps times rows of the batch. reward_tokens: prompt and response tokens
    over all scorings; reward_calls: their number, one per round.
    """

    tokens: np.ndarray
    length: int
    score: float
    row: int
    pool_tokens: np.ndarray
    pool_lengths: np.ndarray
    pool_scores: np.ndarray
    pool_rows: np.ndarray
    rounds: tuple[RoundStats, ...]
    tokens_generated: int
    tokens_computed: int
    reward_tokens: int
    reward_calls: int


def speculative_rejection(
    key: jax.Array,
    policy: Policy,
    reward_fn: RewardFn,
    prompt: np.ndarray,
    cfg: SpecRejConfig,
    *,
    on_round: Callable[[RoundStats], None] | None = None,
) -> SpecRejResult:
    """Generates many rows until memory is full, rejects the worst alpha of them, goes on.

    A round draws tokens for all active rows, scores every one of them (rows that ended in it
    included) and accepts the `n_keep` best. Accepted rows that have ended enter the pool, the
    others go on in the smallest bucket that holds them; the best of the pool is returned. With the
    key of `best_of_n` the score is never above that of Best-of-n_init (pathwise), and equal where
    partial scores rank as final ones do.

    Args:
      key: a typed key; row i draws token t with fold_in(fold_in(key, i), t).
      policy, reward_fn: see `Policy` and `RewardFn`. The reward is called once per round with
        the active rows in ascending order.
      prompt: [P] int32.
      cfg: see `SpecRejConfig`.
      on_round: called after every round.

    Raises:
      ValueError: a bad prompt, a capacity that cannot work (see `check_capacity`), a bad reward.
    """
    prompt = check_prompt(prompt)
    check_capacity(prompt.size, cfg)
    count = initial_rows(prompt.size, cfg)
    search = _Search(prompt, cfg, count)
    state = None
    while search.active.size:
        begin = time.perf_counter()
        length = search.length
        bucket, new = plan_round(search.active.size, length, prompt.size, cfg)
        slots = prompt.size + length + new
        if state is None:
            state = policy.start(row_keys(key, count), prompt, slots)
        else:
            state = policy.gather(state, search.batch(bucket), slots)
        state, drawn, _ = policy.extend(state, new)
        stats = search.judge(np.asarray(drawn), reward_fn)
        stats = stats._replace(seconds=time.perf_counter() - begin)
        search.rounds.append(stats)
        if on_round is not None:
            on_round(stats)
    return search.result()


def speculative_rejection_many(
    key: jax.Array,
    policy: Policy,
    reward_fn: RewardFn,
    prompts: Iterable[np.ndarray],
    cfg: SpecRejConfig,
    *,
    on_round: Callable[[RoundStats], None] | None = None,
) -> list[SpecRejResult]:
    """`speculative_rejection` for every prompt in turn; prompt i uses fold_in(key, i).

    Prompts of equal length share their compiled programs.
    """
    return [
        speculative_rejection(
            jax.random.fold_in(key, i), policy, reward_fn, prompt, cfg, on_round=on_round
        )
        for i, prompt in enumerate(prompts)
    ]


class _Search:
    """The host's side of one search: every row's tokens, who is active, the pool, the account."""

    def __init__(self, prompt: np.ndarray, cfg: SpecRejConfig, count: int):
        self.prompt, self.cfg = prompt, cfg
        self.active = np.arange(count)  # ascending
        self.places = self.active  # where they stand in the last batch
        self.length = 0  # new tokens of every active row
        self.tokens = np.full((count, cfg.max_new_tokens), cfg.pad_id, np.int32)
        self.lengths = np.zeros(count, np.int64)
        self.scores = np.full(count, -np.inf)
        self.pool: list[int] = []
        self.rounds: list[RoundStats] = []
        self.generated = self.computed = self.scored = 0

    def batch(self, bucket: int) -> np.ndarray:
        """Places [bucket] of the active rows; what the repeated first one draws is ignored."""
        padding = np.full(bucket - self.places.size, self.places[0])
        return np.concatenate([self.places, padding]).astype(np.int32)

    def judge(self, drawn: np.ndarray, reward_fn: RewardFn) -> RoundStats:
        """Takes in the tokens `drawn` [bucket, n]: scores, pool, survivors, account."""
        cfg, rows, start = self.cfg, self.active, self.length
        bucket, new = drawn.shape
        cut, lengths, ended = cut_at_stop(drawn[: rows.size], cfg.eos_ids, cfg.pad_id)
        self.length = start + new
        self.tokens[rows, start : self.length] = cut
        self.lengths[rows] = start + lengths
        self.generated += int(lengths.sum())
        self.computed += bucket * new
        self.scored += rows.size * self.prompt.size + int(self.lengths[rows].sum())

        responses = self.tokens[rows, : self.length]
        scores = score_rows(reward_fn, self.prompt, responses, self.lengths[rows], rows)
        self.scores[rows] = scores
        kept = n_keep(rows.size, cfg.alpha)
        order = best_first(scores)
        accepted = np.zeros(rows.size, bool)
        accepted[order[:kept]] = True
        if self.length == cfg.max_new_tokens:
            ended[:] = accepted[:] = True
        pooled = ended if cfg.keep_finished else ended & accepted
        self.pool.extend(rows[pooled])
        self.places = np.flatnonzero(accepted & ~ended)
        self.active = rows[self.places]
        cutoff, best = (float(scores[order[i]]) for i in (kept - 1, 0))
        finished = int(ended.sum())
        index = len(self.rounds)
        return RoundStats(index, rows.size, bucket, start, new, finished, kept, cutoff, best, 0.0)

    def result(self) -> SpecRejResult:
        rows = np.array(sorted(self.pool))
        best = rows[best_first(self.scores[rows])[0]]
        return SpecRejResult(
            tokens=self.tokens[best],
            length=int(self.lengths[best]),
            score=float(self.scores[best]),
            row=int(best),
            pool_tokens=self.tokens[rows],
            pool_lengths=self.lengths[rows],
            pool_scores=self.scores[rows],
            pool_rows=rows,
            rounds=tuple(self.rounds),
            tokens_generated=self.generated,
            tokens_computed=self.computed,
            reward_tokens=self.scored,
            reward_calls=len(self.rounds),
        )
