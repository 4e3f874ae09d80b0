"""What a search does with new tokens: cut rows at a stop token, and score them.

Host arrays. Axes: n rows, T new tokens, P prompt tokens.
"""

from collections.abc import Callable

import numpy as np

RewardFn = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(prompt [P], responses [n, T] int32 padded, lengths [n] int32) -> scores [n]; higher is better.

The same function scores partial and finished responses; nothing after a row's length counts.
"""


def check_prompt(prompt) -> np.ndarray:
    """The prompt as int32 [P]; ValueError unless it is one row of at least one token."""
    prompt = np.asarray(prompt)
    if prompt.ndim != 1 or prompt.size == 0 or not np.issubdtype(prompt.dtype, np.integer):
        raise ValueError(
            f"prompt must be [P] integers with P >= 1, got {prompt.dtype}{list(prompt.shape)}; "
            "pass one prompt, with a begin-of-text token if it has no words"
        )
    return prompt.astype(np.int32)


def cut_at_stop(
    tokens: np.ndarray, eos_ids: tuple[int, ...], pad_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens [n, T] with pads after the stop token, lengths [n] that include it, ended [n])."""
    tokens = np.asarray(tokens, np.int32)
    is_stop = np.isin(tokens, eos_ids)
    ended = np.any(is_stop, axis=1)
    lengths = np.where(ended, is_stop.argmax(axis=1) + 1, tokens.shape[1])
    beyond = np.arange(tokens.shape[1]) >= lengths[:, None]
    return np.where(beyond, np.int32(pad_id), tokens), lengths, ended


def score_rows(
    reward_fn: RewardFn,
    prompt: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """The reward of each row, float64 [n], checked.

    Raises ValueError for a reward of another shape, and for NaN, naming the `rows` [n].
    """
    scores = np.asarray(reward_fn(prompt, tokens, lengths.astype(np.int32)), np.float64)
    if scores.shape != rows.shape:
        raise ValueError(
            f"the reward has shape {scores.shape} for {len(rows)} responses; it must return one "
            f"score per response, shape {rows.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"the reward is NaN for rows {rows[np.isnan(scores)][:10].tolist()}; -inf is allowed, "
            "NaN has no rank"
        )
    return scores


def best_first(scores: np.ndarray) -> np.ndarray:
    """Indices [n] by descending score; of equal scores the smaller index comes first."""
    return np.argsort(-scores, kind="stable")
