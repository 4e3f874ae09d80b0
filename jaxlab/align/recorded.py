"""Searches over recorded responses or scores: they cost no model call."""

from typing import NamedTuple

import numpy as np

from jaxlab.align.policy import Policy
from jaxlab.align.responses import best_first
from jaxlab.align.schedule import SpecRejConfig, n_keep, plan_schedule


def recorded_policy(tokens: np.ndarray, logprobs: np.ndarray | None = None) -> Policy:
    """A policy whose row i is the recorded row i: the `all_tokens` of `best_of_n`, a log.

    A row's tokens do not depend on the rows beside it, so a schedule tried on recorded rows
    chooses what a real run with their key chooses, with the same count of tokens. What it saves
    was generated all the same: a speed-up is measured on a real policy.

    Args:
      tokens: [N, T] int32; whatever stands after a stop token is never looked at.
      logprobs: [N, T] float32, nats; None: zeros.

    Raises:
      ValueError: by `start` and `extend`, for more rows or tokens than were recorded.
    """
    tokens = np.asarray(tokens, np.int32)
    logprobs = np.zeros(tokens.shape, np.float32) if logprobs is None else np.asarray(logprobs)

    def start(row_keys, prompt, max_len):
        if len(row_keys) > len(tokens):
            raise ValueError(f"{len(row_keys)} rows asked for, {len(tokens)} were recorded")
        return _Replay(np.arange(len(row_keys)), 0)

    def extend(state, n_tokens):
        stop = state.step + n_tokens
        if stop > tokens.shape[1]:
            raise ValueError(f"{stop} tokens asked for, {tokens.shape[1]} were recorded")
        span = slice(state.step, stop)
        return _Replay(state.rows, stop), tokens[state.rows, span], logprobs[state.rows, span]

    def gather(state, rows, max_len):
        return _Replay(state.rows[rows], state.step)

    return Policy(start, extend, gather)


def lifetimes(scores: np.ndarray, prompt_len: int, cfg: SpecRejConfig) -> np.ndarray:
    """New tokens [n] of each row when it is rejected, `max_new_tokens` for those never rejected.

    scores: [n, max_new_tokens], entry t - 1 the score of a row's first t tokens; n is the search's
    number of initial rows, and no row ends early.

    Raises:
      ValueError: scores of another shape.
    """
    plan = plan_schedule(prompt_len, cfg)
    scores, shape = np.asarray(scores), (plan[0].active, cfg.max_new_tokens)
    if scores.shape != shape:
        raise ValueError(f"scores must have the shape {shape} of the search, got {scores.shape}")
    active, last = np.arange(shape[0]), np.zeros(shape[0], int)
    for planned in plan:
        end = planned.start_length + planned.new_tokens
        last[active] = end
        best = best_first(scores[active, end - 1])[: n_keep(active.size, cfg.alpha)]
        active = np.sort(active[best])
    return last


class _Replay(NamedTuple):
    """rows: [n] numbers of recorded rows. step: new tokens so far."""

    rows: np.ndarray
    step: int
