"""Tree search by segments: keep the best partial responses and let each branch."""

from collections.abc import Iterable

import jax
import numpy as np

from jaxlab.align.best_of_n import BestOfNResult, collect
from jaxlab.align.policy import Policy, row_keys
from jaxlab.align.responses import RewardFn, best_first, check_prompt, cut_at_stop, score_rows
from jaxlab.checks import check_at_least
from jaxlab.lm.config import stop_tokens


def tree_best_of_n(
    key: jax.Array,
    policy: Policy,
    reward_fn: RewardFn,
    prompt: np.ndarray,
    *,
    n_roots: int,
    n_keep: int,
    n_children: int,
    segment: int,
    max_new_tokens: int,
    eos_ids: int | Iterable[int] = (),
    pad_id: int = 0,
) -> BestOfNResult:
    """TreeBoN (Qiu et al. 2024): grow, score, keep `n_keep`, give each `n_children` children.

    Every layer adds `segment` tokens to `n_roots`, later n_keep n_children, rows; the `n_keep` best
    survive, of which those that ended become leaves. With n_children = 1 it is rejection at fixed
    lengths. Child j of survivor i in layer l draws with
    fold_in(fold_in(key, n_roots + l), i n_children + j).

    Args:
      policy: its `gather` must take `row_keys=`, to give repeated rows keys of their own, as that
        of `lm_policy` does.
      n_roots, n_keep, n_children, segment: see above.
      key, reward_fn, prompt, max_new_tokens, eos_ids, pad_id: as for `best_of_n`.

    Returns:
      BestOfNResult over the leaves [m, max_new_tokens]; `tokens_generated`, `tokens_computed` and
      `reward_tokens` count the whole tree.

    Raises:
      ValueError: sizes <= 0, n_keep > n_roots, a bad prompt or reward.
    """
    prompt = check_prompt(prompt)
    sizes = {
        "n_roots": n_roots,
        "n_keep": n_keep,
        "n_children": n_children,
        "segment": segment,
        "max_new_tokens": max_new_tokens,
    }
    for name, value in sizes.items():
        check_at_least(name, value, 1)
    if n_keep > n_roots:
        raise ValueError(f"n_keep {n_keep} exceeds n_roots {n_roots}: there are not that many rows")
    eos_ids = stop_tokens(eos_ids)

    length = min(segment, max_new_tokens)
    state = policy.start(row_keys(key, n_roots), prompt, prompt.size + length)
    tokens = np.full((n_roots, max_new_tokens), pad_id, np.int32)
    new, layer = length, 0
    leaves: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    generated = computed = scored = 0
    while True:
        state, drawn, _ = policy.extend(state, new)
        count = len(tokens)
        cut, ends, ended = cut_at_stop(drawn[:count], eos_ids, pad_id)
        tokens[:, length - new : length] = cut
        lengths = length - new + ends
        generated += int(ends.sum())
        computed += len(drawn) * new
        scored += count * prompt.size + int(lengths.sum())
        scores = score_rows(reward_fn, prompt, tokens[:, :length], lengths, np.arange(count))
        if length == max_new_tokens:
            leaves.append((tokens, lengths, scores))
            break
        best = np.sort(best_first(scores)[:n_keep])
        done, alive = best[ended[best]], best[~ended[best]]
        leaves.append((tokens[done], lengths[done], scores[done]))
        if not alive.size:
            break
        parents = np.repeat(alive, n_children)
        tokens = tokens[parents]
        new = min(segment, max_new_tokens - length)
        length += new
        layer += 1
        batch = np.resize(parents, n_keep * n_children)  # one shape for all layers
        keys = row_keys(jax.random.fold_in(key, n_roots + layer), batch.size)
        slots = prompt.size + length
        state = policy.gather(state, batch.astype(np.int32), slots, row_keys=keys)
    tokens, lengths, scores = map(np.concatenate, zip(*leaves, strict=True))
    result = collect(prompt, tokens, lengths, scores, computed)
    return result._replace(tokens_generated=generated, reward_tokens=scored)
