"""C2, C6 and C10: what Best-of-N costs, and how full both methods keep the memory."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxlab.align import figures
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.costs import kv_bytes_per_token, peak_slots, slots_by_step
from jaxlab.align.documents import document_model, document_prompt, gold_reward
from jaxlab.align.schedule import PlannedRound, plan_schedule
from jaxlab.align.studies.models import PROMPT_LEN, Stopwatch, language_model, search_settings
from jaxlab.align.studies.pairs import draw_pairs
from jaxlab.runs import Claim, Run, holds, study_key

_SIZES = (1, 8, 64)
_REPEATS = 3


def measure(config, run: Run) -> list[Claim]:
    """Cost by N, utilisation and peak of the cache."""
    model = language_model(config, run)
    cost = run.once("cost_of_n", functools.partial(_cost_of_n, config, model))
    pairs = draw_pairs(config, run)
    alpha = config.alphas[0]
    run.figure("memory", figures.memory(*_memory(config, pairs.searches[alpha].rounds[0][0])))
    return [_cost_claim(cost, config), _memory_claim(config, pairs), _peak_claim(config, pairs)]


def _cost_of_n(config, model) -> dict:
    watch = Stopwatch()

    def one(n):
        return best_of_n(
            study_key(config, 2),
            model.policy,
            gold_reward,
            document_prompt(0),
            n=n,
            max_new_tokens=config.short_tokens,
        )

    runs = {n: [watch(f"{n}", functools.partial(one, n)) for _ in range(_REPEATS)] for n in _SIZES}
    return {
        "tokens": [runs[n][0][0].tokens_generated for n in _SIZES],
        "seconds": [np.median([times["seconds"] for _, times in runs[n]]) for n in _SIZES],
        "cpu_seconds": [np.median([times["cpu_seconds"] for _, times in runs[n]]) for n in _SIZES],
    }


def _cost_claim(cost: dict, config) -> Claim:
    ratio = cost["tokens"] / cost["tokens"][0]
    wall = cost["seconds"] / cost["seconds"][0]
    return Claim(
        "C2",
        "Best-of-N requires vastly more resources at inference time than standard decoding",
        "",
        f"N = {_SIZES[-1]}: {ratio[-1]:.1f} times the tokens, {wall[-1]:.1f} times the wall time",
        holds(abs(ratio[-1] / _SIZES[-1] - 1) <= 0.15 and (np.diff(cost["cpu_seconds"]) > 0).all()),
        detail=f"N = {', '.join(map(str, _SIZES))}: {', '.join(map(str, cost['tokens']))} tokens, "
        f"{', '.join(f'{1e3 * s:.0f}' for s in cost['seconds'])} ms of wall time, "
        f"{', '.join(f'{1e3 * s:.0f}' for s in cost['cpu_seconds'])} ms of processor time, "
        f"{config.short_tokens} tokens each. Rows of a batch share the reading of the weights, so "
        "time grows more slowly than tokens. Criterion: tokens within 15% of N times one (no row "
        "ends early here, so they are), and more processor time with every N.",
    )


def _memory(config, rounds) -> tuple[np.ndarray, np.ndarray]:
    """Used over available slots by decode step: speculative rejection, and Best-of-N."""
    capacity = config.n_init * (PROMPT_LEN + config.first_segment)
    total = PROMPT_LEN + config.max_new_tokens
    plain = slots_by_step((PlannedRound(1, 1, 0, config.max_new_tokens),), PROMPT_LEN) / total
    return slots_by_step(rounds, PROMPT_LEN) / capacity, plain


def _memory_claim(config, pairs) -> Claim:
    alpha = config.alphas[0]
    used = [
        _memory(config, rounds)[0].mean() for row in pairs.searches[alpha].rounds for rounds in row
    ]
    plain = _memory(config, pairs.searches[alpha].rounds[0][0])[1].mean()
    return Claim(
        "C6",
        "Best-of-N underuses memory early on; speculative rejection keeps it full",
        "",
        f"{np.mean(used):.2f} of the slots in use on average, Best-of-N {plain:.2f}",
        holds(np.mean(used) >= 0.7 and abs(plain - 0.5) <= 0.05),
        detail=f"Mean over decode steps of slots held by active rows over capacity, alpha = "
        f"{alpha:g}, {len(used)} runs; Best-of-N with as many rows as fit "
        "when they are complete. Criterion: at least 0.7, against 0.5 within 0.05.",
    )


def _peak_claim(config, pairs) -> Claim:
    capacity = config.n_init * (PROMPT_LEN + config.first_segment)
    halving = {alpha: found for alpha, found in pairs.searches.items() if alpha >= 0.5}
    planned = within = total = 0
    for alpha, found in halving.items():
        plan = plan_schedule(PROMPT_LEN, search_settings(config, alpha, config.max_new_tokens))
        for (i, j), _ in np.ndenumerate(found.score):
            rounds = found.rounds[i][j]
            total += 1
            within += peak_slots(rounds, PROMPT_LEN)[0] <= capacity
            planned += rounds == plan
    peaks = {
        alpha: peak_slots(
            plan_schedule(PROMPT_LEN, search_settings(config, alpha, config.max_new_tokens)),
            PROMPT_LEN,
        )
        for alpha in sorted({*config.sweep, *config.alphas})
    }
    size = kv_bytes_per_token(document_model(), jnp.float32)
    both = peaks[config.alphas[0]][1]
    return Claim(
        "C10",
        "Speculative rejection runs on one accelerator",
        "",
        f"{within} of {total} runs within the {capacity} slots ({capacity * size / 1e6:.1f} MB)",
        holds(within == total and planned == total) if total else "reported",
        detail="Peak over capacity by alpha: "
        + ", ".join(f"{alpha:g}: {peak / capacity:.2f}" for alpha, (peak, _) in peaks.items())
        + ". Below 1/2 a round does not reach the next bucket and goes on token by token. While "
        f"survivors are gathered old and new cache exist at once: {both / capacity:.2f} times the "
        f"capacity at alpha = {config.alphas[0]:g}. Criterion, for alpha >= 1/2: within capacity, "
        "and the rounds of the plan.",
    )
