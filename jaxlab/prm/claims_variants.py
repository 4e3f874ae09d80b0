"""Verdicts on other problems, another base and other networks than the main experiment's."""

import numpy as np

from jaxlab.prm.claim_rows import TOY, known_mean, row
from jaxlab.runs import Claim, spread


def chain_length(config, seeds) -> Claim:
    """A6: the gain by the number of operations, on the weak and on the strong base."""
    votes = [seed["votes"] for seed in seeds]
    strong = seeds[0]["strong_votes"]
    lengths = np.unique(np.concatenate([v["ops"] for v in votes]))
    weak = {n: spread([float(_gain(v)[v["ops"] == n].mean()) for v in votes]) for n in lengths}
    by_problem = {n: spread(_gain(strong)[strong["ops"] == n]) for n in np.unique(strong["ops"])}
    growth = [_mean(_gain(v)[v["ops"] >= 4]) - _mean(_gain(v)[v["ops"] < 4]) for v in votes]
    pooled = _mean(_gain(strong)[strong["ops"] >= 4]) - _mean(_gain(strong)[strong["ops"] < 4])
    levels = ", ".join(
        f"{name} {np.mean(strong[key]):.3f}"
        for name, key in (
            ("one-step majority", "one_step"),
            ("AutoPRM's sample", "sampled"),
            ("reranked", "reranked"),
        )
    )
    return row(
        "A6",
        "; ".join(f"{n} operations {gain}" for n, gain in weak.items())
        + ". Strong base: "
        + "; ".join(f"{n} operations {gain}" for n, gain in by_problem.items()),
        "reported",
        detail=f"{config.k} candidates for each subquestion, reranked, minus the majority of "
        f"{config.k} one-step answers of the fine-tuned network; weak base, over seeds; strong "
        f"base ({config.strong_problems} gold problems, {config.strong_steps} steps; first seed, "
        f"intervals over problems): {levels}. Gain at 4 and 5 operations minus that at 2 and 3: "
        f"weak {spread(growth)}, strong {pooled:.3f}; {TOY}",
    )


def _gain(votes) -> np.ndarray:
    """[P] reranked minus voted in one step, of the same problems."""
    return 1.0 * votes["reranked"] - votes["one_step"]


def _mean(values: np.ndarray) -> float:
    """0 without values, as few problems may have none of a length."""
    return float(values.mean()) if values.size else 0.0


def stopped_early(seeds) -> list[str]:
    """A7: accuracy and share of the tokens of searches that drop rows part-way; none without."""
    if "speculation" not in seeds[0]:
        return []
    found = [seed["speculation"] for seed in seeds]
    parts = []
    for c in range(1, len(found[0]["cut"])):
        rows, cut = (int(found[0][name][c]) for name in ("rows", "cut"))
        lost = spread([float(f["right"][c].mean() - f["right"][0].mean()) for f in found])
        share = np.mean([f["tokens"][c].sum() / f["tokens"][0].sum() for f in found])
        parts.append(
            f"{rows} rows, halved from {cut} tokens on, {lost} at {share:.0%} of the tokens"
        )
    whole = spread([float(f["right"][0].mean()) for f in found])
    return [f"speculative rejection against its own best of k ({whole}): " + ", ".join(parts)]


def search_note(config, seeds) -> str:
    """A7: how the search was used, or why it was not."""
    if "speculation" not in seeds[0]:
        return "Speculative rejection: no search was given; scripts/autoprm.py passes one"
    return (
        f"Speculative rejection on {config.search_problems} problems: the policy puts the next "
        "subquestion into each row itself, and the verifier's product over finished steps ranks "
        "partial traces; same keys, so rows are those of best-of-k; given tokens are counted"
    )


def comparison(seeds, curves, verdict) -> Claim:
    """A9: problems that end in yes or no."""
    auto, outcome = (curves[f"compare_{name}"] for name in ("autoprm", "orm"))
    last = {name: curve["final"][:, -1] for name, curve in (("a", auto), ("o", outcome))}
    gain = spread(last["a"] - last["o"])
    qualities = [seed["quality_compare"] for seed in seeds]
    judged = ", ".join(
        f"{name} {spread([float(q[key]) for q in qualities])}"
        for name, key in (("AUC", "auc"), ("precision", "precision"))
    )
    return row(
        "A9",
        f"AutoPRM {spread(last['a'])}, ORM {spread(last['o'])}, difference {gain}",
        verdict(gain.mean >= 0),
        detail="Criterion: AutoPRM >= ORM. An analogue of StrategyQA: chains of 2 to 4 "
        "operations whose last subquestion is whether one person has more than another; tuned "
        f"{spread(auto['final'][:, 0])}, the commoner answer alone "
        f"{float(seeds[0]['common_answer']):.3f}; steps right, AutoPRM {_rise(auto)}, ORM "
        f"{_rise(outcome)}; {known_mean(outcome['step_precision']):.0%} of the steps in ORM's "
        f"accepted traces are right, {known_mean(auto['step_precision']):.0%} in AutoPRM's: a "
        f"wrong chain often ends in the right word. Verifier: {judged}; {TOY}. StrategyQA itself: "
        "--preset=paper",
    )


def _rise(curve) -> str:
    return f"{curve['step'][:, 0].mean():.3f} to {curve['step'][:, -1].mean():.3f}"


def two_networks(seeds) -> Claim:
    """A10: joint training."""
    one, two = ([seed[name] for seed in seeds] for name in ("plans", "two_networks"))
    gains = {
        name: spread([float(a[name]) - float(b[name]) for a, b in zip(one, two, strict=True)])
        for name in ("own", "gold")
    }
    means = {
        (number, name): spread([float(x[name]) for x in found])
        for number, found in (("one", one), ("two", two))
        for name in ("own", "gold")
    }
    return row(
        "A10",
        f"one minus two: own plan {gains['own']}, gold plan {gains['gold']}",
        "reported",
        detail="fine-tuned, greedy; one network "
        f"{means['one', 'own']} with its own plan and {means['one', 'gold']} with the gold one; "
        f"two, of half its parameters each, {means['two', 'own']} and {means['two', 'gold']}, "
        "each trained on its own share of the same texts for as many tokens; plans with the "
        "right persons: one "
        f"{spread([float(p['all_right_here']) for p in one])}, two "
        f"{spread([float(p['all_right']) for p in two])}; {TOY}",
    )
