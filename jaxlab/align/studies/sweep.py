"""C7: the rejected fraction, over the recorded rows of every pair."""

import dataclasses

import numpy as np

from jaxlab.align import figures
from jaxlab.align.documents import document_prompt, gold_reward
from jaxlab.align.recorded import recorded_policy
from jaxlab.align.speculative import speculative_rejection
from jaxlab.align.studies.models import baseline_rows, judged, search_settings
from jaxlab.align.studies.pairs import Pairs, draw_pairs, pair_key
from jaxlab.runs import Claim, Run, progress

_LEAST_ALPHAS = 3  # up to 0.75, of which a width can be told


def measure(config, run: Run) -> list[Claim]:
    """Cost and score by alpha."""
    pairs = draw_pairs(config, run)
    result = run.once("sweep", lambda: _sweep(config, pairs))
    alphas = np.array(config.sweep)
    base = pairs.scores[..., : baseline_rows(config)]
    scale = np.mean(base.max(axis=-1) - base.min(axis=-1))
    run.figure("alpha", figures.alpha_sweep(alphas, result, pairs.best))
    means, computed = result["score"].mean(axis=(1, 2)), result["computed"]
    moderate = means[alphas <= 0.75]
    width = np.ptp(moderate) / scale if moderate.size else np.nan
    agreed = [
        np.mean(result["row"][config.sweep.index(alpha)] == search.row)
        for alpha, search in pairs.searches.items()
        if alpha in config.sweep
    ]
    order = np.argsort(alphas)
    return [
        Claim(
            "C7",
            "It is robust over alpha; a small alpha costs more and scores slightly better",
            "",
            f"scores within {100 * width:.1f}% of the baseline's range for alpha <= 0.75; "
            f"{computed.max():,.0f} to {computed.min():,.0f} tokens",
            judged(config, np.all(np.diff(computed[order]) <= 0) and width <= 0.1)
            if moderate.size >= _LEAST_ALPHAS
            else "reported",
            detail="alpha: score, computed and generated tokens: "
            + "; ".join(
                f"{a:g}: {m:.3f}, {c:,.0f}, {g:,.0f}"
                for a, m, c, g in zip(alphas, means, computed, result["generated"], strict=True)
            )
            + f". {pairs.best.size} pairs; Best-of-{config.n_init} {pairs.best.mean():.3f}. The "
            "schedule runs over the recorded rows of Best-of-n_init, which a real run draws too; "
            f"real runs at {', '.join(f'{a:g}' for a in pairs.searches)} chose the same row in "
            f"{np.mean(agreed or [np.nan]):.0%}. Criterion: computed tokens never rise with alpha, "
            "scores within 10%.",
        )
    ]


def _sweep(config, pairs: Pairs) -> dict:
    """score, row: [alphas, p, k]; computed, generated: [alphas], mean tokens."""
    shape = (len(config.sweep), *pairs.best.shape)
    score, row, computed, generated = (np.zeros(shape) for _ in range(4))
    for (i, j), _ in progress(list(np.ndenumerate(pairs.best)), "alpha"):
        policy = recorded_policy(pairs.tokens[i, j])
        settings = search_settings(config, 0.5, config.max_new_tokens)
        for a, alpha in enumerate(config.sweep):
            found = speculative_rejection(
                pair_key(config, i, j),
                policy,
                gold_reward,
                document_prompt(i),
                dataclasses.replace(settings, alpha=alpha),
            )
            place = a, i, j
            score[place], row[place] = found.score, found.row
            computed[place], generated[place] = found.tokens_computed, found.tokens_generated
    return {
        "score": score,
        "row": row,
        "computed": computed.mean(axis=(1, 2)),
        "generated": generated.mean(axis=(1, 2)),
    }
