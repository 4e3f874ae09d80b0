"""C3 and C4: the reward of Best-of-n_init, and what Best-of-N pays for it."""

import functools

import numpy as np

from jaxlab.align import figures
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.costs import generation_flops, reward_flops
from jaxlab.align.documents import document_model, document_prompt, gold_reward
from jaxlab.align.recorded import lifetimes, recorded_policy
from jaxlab.align.schedule import PlannedRound, SpecRejConfig
from jaxlab.align.speculative import speculative_rejection
from jaxlab.align.statistics import (
    equivalent_n,
    expected_max,
    improvement_score,
    token_saving,
)
from jaxlab.align.studies.models import PROMPT_LEN, baseline_rows, judged, search_settings
from jaxlab.align.studies.pairs import Pairs, Search, draw_pairs
from jaxlab.runs import Claim, Run, progress, spread, study_key


def measure(config, run: Run) -> list[Claim]:
    """Regret against Best-of-n_init, cost at equal reward, and the additive ablation."""
    pairs = draw_pairs(config, run)
    additive = run.once("additive", functools.partial(_additive, config))
    curve = cost_curve(config, pairs)
    run.figure("reward_by_cost", figures.reward_by_cost(curve, baseline_rows(config)))
    paths = partial_scores(pairs)
    settings = search_settings(config, config.alphas[0], config.max_new_tokens)
    run.figure("pruning", figures.pruning(paths, lifetimes(paths, PROMPT_LEN, settings)))
    return [_quality(config, pairs), _efficiency(config, pairs), _additive_claim(config, additive)]


def regret(pairs: Pairs, search: Search) -> np.ndarray:
    """Best-of-n_init's score minus the search's with the same key, [p, k]; never negative."""
    return pairs.best - search.score


def score_against_baseline(config, pairs: Pairs, best: np.ndarray) -> float:
    """The improvement score of `best` [p, k] over Best-of-(n_init / 8) of the same keys."""
    rows = pairs.scores[..., : baseline_rows(config)]
    return improvement_score(rows.reshape(-1, rows.shape[-1]), best.ravel())


def equal_n(config, pairs: Pairs, lost: float) -> float:
    """The N of which Best-of-N reaches the reward of Best-of-n_init less `lost`."""
    return equivalent_n(pairs.pool, expected_max(pairs.pool, config.n_init).mean() - lost)


def cost_curve(config, pairs: Pairs) -> dict:
    """Mean reward and improvement score by computed tokens, of Best-of-N and of the search.

    n, tokens, reward: [sizes], for every power of two; improvement: of the last of them, from the
    baseline's on. alpha, search_tokens, search_reward, search_improvement: [alphas].
    """
    sizes = [2**i for i in range(config.n_init.bit_length()) if 2**i <= config.n_init]
    searches = pairs.searches.values()
    return {
        "n": np.array(sizes),
        "tokens": np.array(sizes) * config.max_new_tokens,
        "reward": np.array([expected_max(pairs.pool, n).mean() for n in sizes]),
        "improvement": np.array(
            [
                score_against_baseline(config, pairs, pairs.scores[..., :n].max(axis=-1))
                for n in sizes
                if n >= baseline_rows(config)
            ]
        ),
        "alpha": np.array(list(pairs.searches)),
        "search_tokens": np.array([s.tokens_computed.mean() for s in searches]),
        "search_reward": np.array(
            [
                expected_max(pairs.pool, config.n_init).mean() - regret(pairs, s).mean()
                for s in searches
            ]
        ),
        "search_improvement": np.array(
            [score_against_baseline(config, pairs, s.score) for s in searches]
        ),
    }


def partial_scores(pairs: Pairs) -> np.ndarray:
    """Scores [n, N] of the first 1, 2, ..., N tokens of the first pair's rows."""
    tokens, lengths = pairs.tokens[0, 0], pairs.lengths[0, 0]
    steps = range(1, tokens.shape[1] + 1)
    prompt = document_prompt(0)
    return np.stack(
        [gold_reward(prompt, tokens[:, :t], np.minimum(lengths, t)) for t in steps], axis=1
    )


def _quality(config, pairs: Pairs) -> Claim:
    alpha = config.alphas[0]
    scale = expected_max(pairs.pool, config.n_init).mean() - pairs.pool.mean()
    lines = {}
    for a, search in pairs.searches.items():
        lost = regret(pairs, search)
        same = np.mean(search.row == pairs.scores.argmax(axis=-1))
        lines[a] = lost.mean() / scale, same, score_against_baseline(config, pairs, search.score)
    share, same, score = lines[alpha]
    others = "; ".join(
        f"alpha = {a:g}: regret {100 * s:.2g}%, same response {r:.0%}, improvement score {v:.1f}"
        for a, (s, r, v) in lines.items()
    )
    full = score_against_baseline(config, pairs, pairs.best)
    return Claim(
        "C3",
        "It generates high-scoring responses according to a reward model, like Best-of-N does",
        "",
        f"regret {spread(regret(pairs, pairs.searches[alpha]))} of {scale:.2f}; the same response "
        f"in {same:.0%}; improvement score {score:.1f}",
        judged(config, share <= 0.05 and same >= 0.8 and score > 100),
        detail=f"{pairs.best.size} pairs of runs with one key each, {config.n_init} rows of "
        f"{config.max_new_tokens} tokens; analogue: a small model of synthetic documents and their "
        f"gold reward. Regret is Best-of-{config.n_init} minus speculative rejection, relative to "
        f"Best-of-{config.n_init} minus the mean sample. {others}; Best-of-{config.n_init} itself "
        f"{full:.1f} (Best-of-{baseline_rows(config)} has 100). Criterion: regret <= 5%, the same "
        "response in >= 80%, improvement score > 100.",
    )


def _efficiency(config, pairs: Pairs) -> Claim:
    cfg = document_model()
    lines, tokens_at = [], {}
    for alpha, search in pairs.searches.items():
        lost = spread(regret(pairs, search))
        n = equal_n(config, pairs, lost.mean)
        tokens = n * config.max_new_tokens / search.tokens_computed.mean()
        tokens_at[alpha] = tokens
        least = equal_n(config, pairs, lost.high) if lost.n > 1 else n
        every = [rounds for row in search.rounds for rounds in row]
        flops = np.mean([_flop_ratio(cfg, config, rounds, n) for rounds in every], axis=0)
        share = n / config.n_init
        wall = share * pairs.seconds.sum() / search.seconds.sum()
        cpu = share * pairs.cpu_seconds.sum() / search.cpu_seconds.sum()
        growth = (PROMPT_LEN + config.max_new_tokens) / (PROMPT_LEN + config.first_segment)
        lines.append(
            f"alpha = {alpha:g}: N = {n:.0f} (at least {least:.0f} by the 95% interval of the "
            f"regret), {tokens:.1f}x tokens (bound without the first round "
            f"{token_saving(growth, alpha):.1f}x), {flops[0]:.1f}x FLOPs, {flops[1]:.1f}x with a "
            f"reward model of the generator's size, {wall:.0f}x wall, {cpu:.0f}x processor time"
        )
    first = config.alphas[0]
    return Claim(
        "C4",
        "16 to 32 times more computationally efficient",
        "16 to 32",
        ", ".join(
            f"{ratio:.1f}x tokens at alpha = {alpha:g}" for alpha, ratio in tokens_at.items()
        ),
        judged(config, tokens_at[first] >= 16),
        detail="Best-of-N at the same mean reward over speculative rejection, same engine, compile "
        f"time excluded, Best-of-N's cache grown in steps too. {'; '.join(lines)}. On a CPU time "
        "follows tokens, and early stages attend to less; on an accelerator a full cache costs the "
        "same however many rows share it. The paper's figures show 14 to 75 for base models and 3 "
        "to 6 for an instruction-tuned one. Criterion: >= 16x tokens at equal reward, alpha = "
        f"{first:g}.",
    )


def _flop_ratio(cfg, config, rounds, n: float) -> tuple[float, float]:
    """FLOPs of Best-of-n over the search's: generation alone, and with a like reward model."""
    ours = generation_flops(cfg, rounds, PROMPT_LEN)
    one = generation_flops(cfg, (PlannedRound(1, 1, 0, config.max_new_tokens),), PROMPT_LEN)
    scored = [(r.active, PROMPT_LEN + r.start_length + r.new_tokens) for r in rounds]
    ours_read = reward_flops(cfg, scored)
    one_read = reward_flops(cfg, [(1, PROMPT_LEN + config.max_new_tokens)])
    return n * one / ours, n * (one + one_read) / (ours + ours_read)


def _additive(config) -> dict:
    """Rewards that are sums of independent tokens: a beginning says little about its end."""
    length, first, values = 254, 6, 11
    settings = SpecRejConfig(
        max_new_tokens=length,
        capacity_tokens=config.additive_rows * (PROMPT_LEN + first),
        n_init=config.additive_rows,
    )
    prompt = np.zeros(PROMPT_LEN, np.int32)

    def reward(prompt, tokens, lengths):
        return tokens.sum(axis=1) - (values - 1) / 2 * tokens.shape[1]

    pool, found, computed = [], [], 0
    for number in progress(range(config.additive_keys), "additive rewards"):
        rng = np.random.default_rng((config.seed, 3, number))
        policy = recorded_policy(rng.integers(values, size=(config.additive_rows, length)))
        key = study_key(config, 3)
        every = best_of_n(
            key, policy, reward, prompt, n=config.additive_rows, max_new_tokens=length
        )
        search = speculative_rejection(key, policy, reward, prompt, settings)
        pool.append(every.all_scores)
        found.append(search.score)
        computed = search.tokens_computed
    pool = np.array(pool)
    lost = pool.max(axis=1) - found
    reached = expected_max(pool.reshape(-1), config.additive_rows) - lost.mean()
    n = equivalent_n(pool.reshape(1, -1), float(reached))
    return {"n": n, "ratio": n * length / computed, "regret": lost}


def _additive_claim(config, result: dict) -> Claim:
    return Claim(
        "C4-additive",
        "The limit of the method: a reward that is a sum of independent parts",
        "",
        f"{float(result['ratio']):.1f}x tokens at equal reward, N = {float(result['n']):.0f} of "
        f"{config.additive_rows}",
        "reported",
        detail=f"Random tokens, reward their sum, so that partial and final rewards correlate as "
        f"sqrt(t / T): {config.additive_rows} rows of 254 tokens, first cut after 6, alpha = 1/2, "
        f"{config.additive_keys} keys, regret {spread(result['regret'])}. At full reward it would "
        f"be {token_saving(256 / 8, 0.5):.1f}x or less.",
    )
