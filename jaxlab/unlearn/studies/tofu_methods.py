"""N1, N4, N5 and S3 on mini-TOFU: every method forgets the same authors, evaluated on the way."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxlab.runs import Claim, Run, holds, spread
from jaxlab.unlearn import figures
from jaxlab.unlearn.answers import answer_lengths, scoring
from jaxlab.unlearn.preference_losses import npo_weight, simnpo_weight
from jaxlab.unlearn.studies import tofu_percents
from jaxlab.unlearn.studies.tofu_bench import Bench, original, take, verdict
from jaxlab.unlearn.studies.tofu_comparison import (
    METHODS,
    Comparison,
    Scores,
    compare,
    ends,
    epochs_at,
    listed,
    mean,
    table,
)
from jaxlab.unlearn.tofu_metrics import SPLITS
from jaxlab.unlearn.training import reference_logprobs

STATEMENTS = {
    "N1-tofu": "Methods based on gradient ascent collapse on TOFU",
    "N4": "NPO balances forgetting and utility better than its baselines on TOFU",
    "N5": "NPO's answers stay sensible, those of gradient ascent are gibberish",
    "S3": "At the start NPO weighs every example alike; SimNPO's weights depend on length and data",
}
# The rows that criteria name, and SimNPO+RT.
_JUDGED = ("GA", "GA+RT", "GA+KL", "IDK+RT", "DPO+RT", "NPO+RT", "SimNPO+RT")
_PUBLISHED = (
    "forget10 FQ / MU: GA 2.2e-16 / 0.00, GradDiff 3.7e-15 / 0.54, IDK 2.9e-14 / 0.54, NPO 0.29 / "
    "0.55, SimNPO 0.45 / 0.62"
)


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """All methods at `forget_percent`, and on less and more."""
    percent = config.forget_percent
    found = []
    for number in range(config.num_seeds):
        # What no criterion names runs once.
        names = [name for name in config.tofu_methods if number == 0 or name in _JUDGED]
        model = bench._replace(number=number)
        found.append(compare(config, run, model, start, percent, names))
    first = found[0]
    for name, path in first.paths.items():
        for step in range(len(path["fq"])):
            run.log(step, **{f"tofu/{name}/{field}": path[field][step] for field in path})
    retrained_report = first.judged.report(first.judged.retrained_logs)
    run.figure("tofu_paths", figures.tofu_paths(first.paths, retrained_report))
    run.write_text("answers.md", _sample_answers(first.judged, first.results))
    _, forget = bench.split(percent)
    known = original(bench, run, start)
    weigh = functools.partial(_weights, bench, known, forget, first)
    weights = run.once("tofu_weights_by_reference", weigh)
    run.figure("weights", figures.weights(weights))
    return [
        _collapse(config, found, percent),
        _balance(config, found, percent),
        _sense(config, found),
        _evenness_of_weights(weights),
        *tofu_percents.measure(config, run, bench, start, first),
    ]


def _weights(bench: Bench, known: Any, forget: np.ndarray, found: Comparison) -> dict:
    """Weights of NPO and SimNPO `[snapshots + 1, questions]` along their own paths."""
    count = len(found.judged.evaluation.sets["forget"])
    length = answer_lengths(take(bench.author_rows, forget[:count]))
    before = -found.judged.logs[SPLITS["forget"]]["avg_gt_loss"] * length
    # As training stores it, not as the evaluation has it: else the start would be compared with
    # itself, and a wrong reference would not show.
    hidden_fn, head = scoring(bench.speaker.cfg)
    stored = reference_logprobs(hidden_fn, known, take(bench.author_rows, forget), head=head)
    reference = np.asarray(stored)[:count]
    weights = {"length": length}
    for name, weigh in (("NPO+RT", npo_weight), ("SimNPO+RT", simnpo_weight)):
        logs = found.results[name]["logs"]
        logp = np.stack(
            [before]
            + [-logs[i][SPLITS["forget"]]["avg_gt_loss"] * length for i in sorted(logs, key=int)]
        )
        beta = METHODS[name].beta
        second = reference if name == "NPO+RT" else length
        weights[name] = np.stack([np.asarray(weigh(row, second, beta=beta)) for row in logp])
    return weights


def _collapse(config, found: list[Comparison], percent: float) -> Claim:
    end = {name: mu for name, mu in ends(found, "mu").items() if name.startswith("GA")}
    before = [each.judged.report(each.judged.logs).model_utility for each in found]
    return Claim(
        "N1-tofu",
        STATEMENTS["N1-tofu"],
        "MU 0.00 (GA)",
        ", ".join(f"{name} MU {spread(mu):.3f}" for name, mu in end.items()),
        verdict(config, end["GA"].max() < 0.05),
        detail=f"Mini-TOFU, forget {percent:g}%, at the end; the original has MU "
        f"{spread(before):.3f}. Criterion, for every model: GA's MU < 0.05.",
    )


def _balance(config, found: list[Comparison], percent: float) -> Claim:
    fq, mu = ends(found, "fq"), ends(found, "mu")
    before = np.array([each.judged.report(each.judged.logs).model_utility for each in found])
    rivals = np.max([fq[name] for name in fq if name.startswith(("GA", "IDK", "DPO"))], axis=0)
    met = (
        (fq["NPO+RT"] >= 10 * rivals).all()
        and (mu["NPO+RT"] >= 0.9 * before).all()
        and mu["GA"].max() < 0.05
    )
    return Claim(
        "N4",
        STATEMENTS["N4"],
        _PUBLISHED,
        f"FQ / MU: NPO+RT {listed(fq['NPO+RT'])} / {mean(mu['NPO+RT'])}, best FQ of GA, IDK, DPO "
        f"{listed(rivals)}, GA's MU {mean(mu['GA'])}",
        verdict(config, met),
        detail=f"Mini-TOFU (a small model trained here), forget {percent:g}%, "
        f"{epochs_at(config, percent)} epochs at {config.lr:g}. {table(found)} A collapsed model "
        "can reach a high FQ by accident; best FQ of checkpoints with MU >= 0.9 of the original's: "
        + ", ".join(f"{name} {listed(quality)}" for name, quality in _useful(found).items())
        + ". Criterion, for every model: NPO+RT's FQ at least ten times that of every GA, IDK and "
        "DPO row, MU >= 0.9 of the original's, GA's MU < 0.05.",
    )


def _useful(found: list[Comparison]) -> dict[str, np.ndarray]:
    """The best forget quality along each path where utility holds, 0 where there is none."""

    def best(path: dict) -> float:
        kept = path["mu"] >= 0.9 * path["mu"][0]
        return path["fq"][1:][kept[1:]].max(initial=0)

    return {
        name: np.array([best(each.paths[name]) for each in found if name in each.paths])
        for name in found[0].paths
    }


def _sense(config, found: list[Comparison]) -> Claim:
    def mean_of(value: Callable[[dict], float]) -> dict[str, np.ndarray]:
        return {
            name: np.array([value(each.results[name]) for each in found if name in each.results])
            for name in found[0].results
        }

    circles = mean_of(lambda r: float(r["logs"][max(r["logs"], key=int)]["repetition"].mean()))
    fluency = mean_of(lambda result: float(result["fluency"].mean()))
    met = min(circles["GA"].min(), circles["GA+RT"].min()) >= 0.9 and circles["NPO+RT"].max() <= 0.5
    judged = found[0].judged
    return Claim(
        "N5",
        STATEMENTS["N5"],
        "examples (Fig. 7)",
        "repeated 2-grams: "
        + ", ".join(f"{name} {spread(circles[name]):.2f}" for name in ("GA", "GA+RT", "NPO+RT")),
        verdict(config, met),
        detail="Greedy answers to forget questions; original "
        f"{judged.logs['repetition'].mean():.2f}, retrained "
        f"{judged.retrained_logs['repetition'].mean():.2f}; "
        + ", ".join(f"{name} {rate.mean():.2f}" for name, rate in circles.items())
        + ". NLL per token under the retrained model: "
        + ", ".join(f"{name} {value.mean():.1f}" for name, value in fluency.items())
        + ". Answers are in artifacts/answers.md. Criterion, for every model: GA and GA+RT >= "
        "0.9, NPO+RT <= 0.5.",
    )


def _evenness_of_weights(weights: dict) -> Claim:
    length = weights["length"]
    start_npo, start_simple = weights["NPO+RT"][0], weights["SimNPO+RT"][0]

    def correlation(name: str, step: int) -> str:
        row = weights[name][step]
        # Two computations of one number differ in the last digits, which correlate with nothing.
        equal = row.std() <= 1e-5 * row.mean()
        return "none (all equal)" if equal else f"{np.corrcoef(row, length)[0, 1]:.2f}"

    steps = {"start": 0, "first snapshot": 1, "end": -1}
    first = np.corrcoef(start_simple, length)[0, 1]
    return Claim(
        "S3",
        STATEMENTS["S3"],
        "weights near 1 at epoch 1 (Fig. 3)",
        f"NPO's weights at the start {start_npo.min():.3f} to {start_npo.max():.3f}; correlation "
        f"of SimNPO's with length {first:.2f}",
        holds(np.abs(start_npo - 1).max() < 1e-3 and first < -0.5),
        detail=f"{len(length)} forget questions. Correlation of weight and length: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{when} {correlation(name, i)}" for when, i in steps.items())
            for name in ("NPO+RT", "SimNPO+RT")
        )
        + ". Criterion: weights 1 for all, correlation below -0.5.",
    )


def _sample_answers(judged: Scores, results: dict, shown: int = 3) -> str:
    """The first forget questions with what every model answers, as Markdown."""
    lines = []
    for i, qa in enumerate(judged.evaluation.sets["forget"][:shown]):
        lines += [f"### {qa.question}", "", f"- truth: {qa.answer}"]
        lines += [f"- original: {judged.logs['answers'][i]}"]
        lines += [f"- retrained: {judged.retrained_logs['answers'][i]}"]
        for name, result in results.items():
            logs = result["logs"]
            lines.append(f"- {name}: {logs[max(logs, key=int)]['answers'][i]}")
        lines.append("")
    return "\n".join(lines)
