"""Verdicts on what AutoPRM's experiment measured."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxlab.prm.claim_rows import ROWS, TOY, known_mean, row
from jaxlab.prm.claims_variants import (
    chain_length,
    comparison,
    search_note,
    stopped_early,
    two_networks,
)
from jaxlab.prm.compact import EPSILONS
from jaxlab.prm.studies.checkpoint import is_strategyqa
from jaxlab.prm.studies.config import AutoPRMConfig
from jaxlab.prm.studies.measures import rank_correlation
from jaxlab.runs import Claim, holds, spread


def judge_claims(
    config: AutoPRMConfig, look_up: float, seeds: list[dict[str, Any]], curves: dict
) -> list[Claim]:
    """A row for each sentence of the paper; below the small preset's sizes figures alone."""

    def verdict(condition) -> str:
        return holds(bool(condition)) if config.full_size else "reported"

    last = {name: curve["final"][:, -1] for name, curve in curves.items()}
    sft = curves["autoprm"]["final"][:, 0]
    rows = [
        _decomposition(seeds, verdict),
        *_iteration(config, look_up, seeds, curves, last, sft, verdict),
        *_context(curves, last, verdict),
        _granularity(config, seeds, verdict),
        chain_length(config, seeds),
        _spending(config, seeds, sft, verdict),
        _provenance(seeds, last),
        comparison(seeds, curves, verdict),
        two_networks(seeds),
        row("P1", "", "not run", detail="--preset=paper with --model and --data"),
    ]
    return sorted(rows, key=lambda claim: list(ROWS).index(claim.id))


def checkpoint_claims(config: AutoPRMConfig, found: dict[str, Any] | None) -> list[Claim]:
    """All rows for a checkpoint: P1, or A9 on StrategyQA, where measured; the others not run."""
    measured = None if found is None else "A9" if is_strategyqa(config.data) else "P1"
    reasons = dict.fromkeys(ROWS, "measured on generated problems: --preset=small")
    reasons["P1"] = "--preset=paper needs --model and --data, GSM8K's train_socratic.jsonl"
    reasons["A9"] = (
        "--preset=paper needs --model and --data, StrategyQA's .json; an analogue on generated "
        "problems: --preset=small"
    )
    return [
        _checkpoint(config, found, name)
        if found is not None and name == measured
        else row(name, "", "not run", detail=reasons[name])
        for name in ROWS
    ]


def _checkpoint(config: AutoPRMConfig, found: dict[str, Any], name: str) -> Claim:
    curves = found["curves"]
    last = {name: f"{curve['final'][0, -1]:.3f}" for name, curve in curves.items()}
    switch = zip(found["realised"]["epsilon"], found["realised"]["realised"], strict=True)
    return row(
        name,
        f"tuned {curves['autoprm']['final'][0, 0]:.3f}; AutoPRM {last['autoprm']}; ORM "
        f"{last['orm']}; tuning continued {last['sft_continued']}; AutoPRM without context "
        f"{last['autoprm_no_cgd']}",
        "reported",
        detail=f"{Path(config.model).name} on {found['counts']['train']} problems of "
        f"{Path(config.data).name}, {found['counts']['test']} tested end to end with the network's "
        f"own plans, greedy; {config.rounds} rounds of {config.round_problems} problems, k "
        f"{config.k}, granularity {config.epsilon:g}; asked for and realised share of steps "
        + ", ".join(f"{asked:g}: {share:.2f}" for asked, share in switch),
    )


def _decomposition(seeds, verdict) -> Claim:
    plans = [seed["plans"] for seed in seeds]
    rank = spread([rank_correlation(p["asked"], p["realised"]) for p in plans])
    error = spread([float(np.abs(p["asked"] - p["realised"]).mean()) for p in plans])
    ends = spread([float(p["ends_right"].mean()) for p in plans])
    quarter = spread([float(p["all_right"][EPSILONS.index(0.25)]) for p in plans])
    own, gold = (spread([float(p[name]) for p in plans]) for name in ("own", "gold"))
    everyone = np.mean([p["all_right"] for p in plans], axis=0)
    return row(
        "A1",
        f"{rank}; {error}; {ends}; {quarter}",
        verdict(
            rank.mean >= 0.9 and error.mean <= 0.1 and ends.mean >= 0.95 and quarter.mean >= 0.75
        ),
        detail="Criterion: Spearman >= 0.9, mean error <= 0.1, 95% end with the asked person, 75% "
        "all right at 0.25. Asked against realised share of steps; ending right is easy, for plans "
        "are written back to front; all persons right at 0, 0.25, ... 1: "
        f"{', '.join(f'{x:.2f}' for x in everyone)}; final accuracy with the network's own plan "
        f"{own}, with the gold one {gold}; {TOY}",
    )


def _iteration(config, look_up, seeds, curves, last, sft, verdict) -> list[Claim]:
    steps, auto = curves["autoprm"]["step"], last["autoprm"]
    qualities = [seed["quality_cgd"] for seed in seeds]
    judged = ", ".join(
        f"{name} {spread([float(q[key]) for q in qualities])}"
        for name, key in (("AUC", "auc"), ("precision", "precision"), ("first-error F1", "f1"))
    )
    gain = spread(auto - last["orm"])
    continued = spread(last["orm"] - last["sft_continued"])
    few = spread(auto[:1] - last["prm_few_labels"])
    oracle = curves["oracle"]["final"][0, -1]
    grouped = seeds[0]["grpo"]
    return [
        row(
            "A2",
            f"final {spread(sft)} to {spread(auto)}, step {spread(steps[:, 0])} to "
            f"{spread(steps[:, -1])}, fine-tuning continued {spread(last['sft_continued'])}",
            verdict(
                (auto - sft).mean() >= 0.06
                and (steps[:, -1] - steps[:, 0]).mean() > 0
                and auto.mean() >= last["sft_continued"].mean()
            ),
            detail="Criterion: final + 0.06, step accuracy rises, at least fine-tuning continued. "
            f"Verifier: {judged}; look-up tokens of the base, context shown, {look_up:.3f}; "
            f"candidates accepted by the exact sub-answer (seed 0) {oracle:.3f}. GRPO instead, the "
            "candidates of a subquestion a group and the verifier's score the reward (seed 0): by "
            f"round final {_path(grouped['final'])}; step {_path(grouped['step'])}; "
            f"{grouped['informative_groups'].mean():.0%} of the groups informative, rate "
            f"{config.grpo_lr:g}; {TOY}",
        ),
        row(
            "A3",
            str(gain),
            verdict(gain.mean >= 0.015),
            detail=f"Criterion: AutoPRM - ORM >= 0.015. ORM {spread(last['orm'])}; ORM - tuning "
            f"continued {continued}; {_counts('AutoPRM', curves['autoprm'])}; "
            f"{_counts('ORM', curves['orm'])}. As many whole traces a problem as candidates a "
            "subquestion; the supervision is unequal, for the verifier was trained on sub-answers; "
            f"{TOY}",
        ),
        row(
            "A3'",
            str(few),
            verdict(few.mean >= -0.02),
            detail="Criterion: AutoPRM >= PRM-RL - 0.02. "
            "PRM-RL stands for a verifier from the exact labels of a tenth of the problems: "
            f"{spread(last['prm_few_labels'])}, on the first seed alone; {TOY}",
        ),
    ]


def _path(curve) -> str:
    """The rounds' values, in order."""
    return ", ".join(f"{value:.3f}" for value in curve)


def _counts(name: str, curve) -> str:
    totals = {key: curve[key].sum(1).mean() for key in ("drawn_tokens", "accepted_tokens")}
    return (
        f"{name} drew {totals['drawn_tokens']:.0f} tokens and accepted "
        f"{totals['accepted_tokens']:.0f}, {known_mean(curve['step_precision']):.0%} of their "
        "steps right"
    )


def _context(curves, last, verdict) -> list[Claim]:
    difference = spread(last["autoprm"] - last["autoprm_no_cgd"])
    gaps = {
        name: spread(curves[name]["reward"][:, -1] - curves[name]["step"][:, -1])
        for name in ("autoprm", "autoprm_no_cgd")
    }
    branches = "; ".join(
        f"{label} context verifier {_path(curves[name]['reward'][0])}, steps right "
        f"{_path(curves[name]['step'][0])}, final {_path(curves[name]['final'][0])}"
        for label, name in (("with", "branch_autoprm"), ("without", "branch_no_cgd"))
    )
    return [
        row(
            "A4",
            str(difference),
            verdict(difference.mean >= 0.08),
            detail="Criterion: CGD - no CGD >= 0.08. "
            f"Without {spread(last['autoprm_no_cgd'])}; partly a reading aid, since the "
            f"next subquestion names the referent; {TOY}",
        ),
        row(
            "A4-tampering",
            f"verifier's reward minus step accuracy after iteration: {gaps['autoprm']} with, "
            f"{gaps['autoprm_no_cgd']} without",
            "reported",
            detail="figure tampering: the rounds, and a closed form in which the policy drifts to "
            "the easier reading. Siblings with a person of their own behind them, so that the "
            f"problem does not tell the readings apart (seed 0): {branches}; {TOY}",
        ),
    ]


def _granularity(config, seeds, verdict) -> Claim:
    greedy = np.array([seed["sweep"]["greedy"] for seed in seeds])
    budget = np.array([seed["sweep"]["budget"] for seed in seeds])
    mean = budget.mean(0)
    interior = 0 < int(mean.argmax()) < len(mean) - 1
    apart = min(x.mean(0).max() - x.mean(0)[0] for x in (greedy, budget))
    spent = np.mean([seed["sweep"]["spent"] for seed in seeds], axis=0)

    def show(table):
        return ", ".join(f"{x:.3f}" for x in table.mean(0))

    return row(
        "A5",
        f"greedy {show(greedy)}; 12 samples {show(budget)}",
        verdict(interior and apart >= 0.1),
        detail="Criterion: interior maximum with 12 samples a problem; 0 is 0.1 below the best. "
        f"Granularity {', '.join(f'{x:g}' for x in config.sweep)}, greedy and reranked (samples "
        f"spent: {', '.join(f'{x:.1f}' for x in spent)}), "
        f"after iteration at {config.epsilon:g}; {TOY}",
    )


def _spending(config, seeds, sft, verdict) -> Claim:
    votes = [seed["votes"] for seed in seeds]
    names = ("sampled", "majority", "best_min", "best_prod", "weighted", "reranked", "passed")
    mean = {name: np.array([float(np.mean(v[name])) for v in votes]) for name in names}
    votes_gain = (mean["majority"] - mean["sampled"]).mean()
    best_gain = (mean["best_prod"] - mean["majority"]).mean()
    unparsed = np.mean([v["unparsed"] for v in votes])
    reworded = [float(seed["rephrased"]["final"]) for seed in seeds]
    return row(
        "A7",
        "; ".join(
            [
                *(f"{name.replace('_', ' ')} {spread(mean[name])}" for name in names),
                *stopped_early(seeds),
            ]
        ),
        verdict(votes_gain > 0.02 and best_gain > 0.04),
        detail="Criterion: majority > sample + 0.02, best of 8 (prod) > majority + 0.04. "
        f"{config.k} samples a problem at temperature 1; {unparsed:.1%} of them without "
        "an answer, counted wrong. Rephrasing as augmentation (each text of a problem tells its "
        f"facts in another order, as many updates): tuned {spread(sft)}, rephrased "
        f"{spread(reworded)}, difference {spread(reworded - sft)}. "
        f"{search_note(config, seeds)}; {TOY}",
    )


def _provenance(seeds, last) -> Claim:
    same, texts = (seeds[0]["provenance"][name] for name in ("same", "texts"))
    precision = float(seeds[0]["quality_rollout"]["precision"])
    return row(
        "A8",
        f"{'the same' if same else 'other'} {int(texts)} texts",
        holds(same) if texts else "reported",
        detail="Criterion: a round accepts the same texts when gold steps and answers are wrong. "
        "The verifier's own training reads the sub-answers of its problems. One whose labels are "
        "rollouts that know final answers alone, on half of the problems (first seed): final "
        f"accuracy {last['rollout_labels'][0]:.3f} against {last['autoprm'][0]:.3f}, outcome "
        f"reward {last['orm'][0]:.3f}; its precision {precision:.2f}",
    )
