"""The schedule of speculative rejection: integers only, known before anything is generated.

Axes: b rows of a batch, P prompt tokens, t new tokens so far, n new tokens of a round. A row with t
new tokens holds P + t slots of the key-value cache.
"""

import bisect
import dataclasses
import math
from typing import NamedTuple

from jaxlab.checks import check_at_least
from jaxlab.lm.config import stop_tokens


@dataclasses.dataclass(frozen=True)
class SpecRejConfig:
    """Settings of a speculative rejection; hashable. Raises ValueError that names the field.

    Attributes:
      max_new_tokens: where a response is cut.
      capacity_tokens: cache slots that fit into memory, see `token_capacity`.
      alpha: fraction of the active rows that a round rejects, in [0, 1).
      n_init: rows of the first round; None: as many as fit with `first_segment` new tokens each.
      first_segment: new tokens before the first decision, where `n_init` is None.
      min_segment: fewest new tokens of a round, even where they exceed the capacity.
      prefix_shared: the rows share the prompt's slots, which then do not count.
      keep_finished: a row that has ended stays in the pool though its round rejected it: free,
        never worse, and not the paper's rule.
      eos_ids: stop tokens, an id or several.
      pad_id: fills a response after its stop token.
    """

    max_new_tokens: int
    capacity_tokens: int
    alpha: float = 0.5
    n_init: int | None = None
    first_segment: int = 8
    min_segment: int = 1
    prefix_shared: bool = False
    keep_finished: bool = False
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0

    def __post_init__(self):
        for name in ("max_new_tokens", "capacity_tokens", "n_init", "first_segment", "min_segment"):
            value = getattr(self, name)
            if name == "n_init" and value is None:
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__") or value <= 0:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        _check_alpha(self.alpha)
        object.__setattr__(self, "eos_ids", stop_tokens(self.eos_ids))


class PlannedRound(NamedTuple):
    """active rows in a batch of `bucket`, each `new_tokens` tokens on from `start_length`."""

    active: int
    bucket: int
    start_length: int
    new_tokens: int


def n_keep(n: int, alpha: float) -> int:
    """How many of n rows survive a round: n - ceil((n - 1) alpha), at least 1.

    For distinct scores this is the number at or above numpy's alpha-quantile. Raises ValueError
    for n <= 0 or alpha outside [0, 1).
    """
    if n <= 0:
        raise ValueError(f"n must be >= 1, got {n}: there is no row to keep")
    _check_alpha(alpha)
    return n - math.ceil((n - 1) * alpha - 1e-9)


def bucket_ladder(n_init: int) -> tuple[int, ...]:
    """n_init, ceil(n_init / 2), ceil(n_init / 4), ..., 1: the batch sizes that are compiled."""
    check_at_least("n_init", n_init, 1)
    ladder = [n_init]
    while ladder[-1] > 1:
        ladder.append(-(-ladder[-1] // 2))
    return tuple(ladder)


def initial_rows(prompt_len: int, cfg: SpecRejConfig) -> int:
    """Rows of the first round: `n_init`, or what fits with `first_segment` tokens; at least 1."""
    if cfg.n_init is not None:
        return cfg.n_init
    first = min(cfg.first_segment, cfg.max_new_tokens)
    return max(cfg.capacity_tokens // (_counted(prompt_len, cfg) + first), 1)


def plan_round(
    active: int, new_so_far: int, prompt_len: int, cfg: SpecRejConfig
) -> tuple[int, int]:
    """(bucket, new tokens) of a round: the smallest bucket for the rows, filled to capacity.

    n = min(max(capacity // b - P - t, min_segment), max_new_tokens - t).
    """
    ascending = bucket_ladder(initial_rows(prompt_len, cfg))[::-1]
    if not 1 <= active <= ascending[-1]:
        raise ValueError(f"active must be from 1 to {ascending[-1]} rows, got {active}")
    bucket = ascending[bisect.bisect_left(ascending, active)]
    room = cfg.capacity_tokens // bucket - _counted(prompt_len, cfg) - new_so_far
    return bucket, min(max(room, cfg.min_segment), cfg.max_new_tokens - new_so_far)


def plan_schedule(prompt_len: int, cfg: SpecRejConfig) -> tuple[PlannedRound, ...]:
    """All rounds of a run in which no row stops early: the shapes to compile.

    Raises ValueError as `check_capacity` does.
    """
    check_capacity(prompt_len, cfg)
    rounds, active, length = [], initial_rows(prompt_len, cfg), 0
    while length < cfg.max_new_tokens:
        bucket, new = plan_round(active, length, prompt_len, cfg)
        rounds.append(PlannedRound(active, bucket, length, new))
        active, length = n_keep(active, cfg.alpha), length + new
    return tuple(rounds)


def check_capacity(prompt_len: int, cfg: SpecRejConfig):
    """Raises ValueError where memory cannot hold the first round, or can never be freed."""
    rows, counted = initial_rows(prompt_len, cfg), _counted(prompt_len, cfg)
    if cfg.alpha == 0 and cfg.capacity_tokens < rows * (counted + cfg.max_new_tokens):
        raise ValueError(
            f"alpha 0 rejects nothing, so memory is never freed: {rows} rows of "
            f"{counted + cfg.max_new_tokens} tokens exceed capacity_tokens "
            f"{cfg.capacity_tokens}; use alpha > 0 or a smaller n_init"
        )
    if cfg.capacity_tokens < rows * (counted + 1):
        raise ValueError(
            f"capacity_tokens {cfg.capacity_tokens} cannot hold {rows} rows of {counted} prompt "
            f"tokens and one new token; raise capacity_tokens or lower n_init"
        )


def _counted(prompt_len: int, cfg: SpecRejConfig) -> int:
    """P', the prompt's slots per row."""
    return 0 if cfg.prefix_shared else prompt_len


def _check_alpha(alpha: float):
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha}")
