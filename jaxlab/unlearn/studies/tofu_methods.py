"""N1, N4, N5 and S3 on mini-TOFU: every method forgets the same authors, evaluated on the way."""

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxlab.runs import Claim, Run, holds, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.answers import answer_lengths, answer_nll
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.preference_losses import npo_weight, simnpo_weight
from jaxlab.unlearn.studies.seeds import study_key
from jaxlab.unlearn.studies.tofu_bench import (
    Bench,
    Recipe,
    original,
    retrained,
    take,
    unlearned,
)
from jaxlab.unlearn.tofu_evaluation import Evaluation
from jaxlab.unlearn.tofu_metrics import SPLITS, TofuReport, tofu_report

METHODS = {
    "GA": method_config("ga"),
    "GA+RT": method_config("ga+rt"),
    "GA+KL": method_config("ga+kl"),
    "IDK+RT": method_config("idk+rt"),
    "DPO+RT": method_config("dpo+rt"),
    "KTO+RT": method_config("kto+rt"),
    "NPO": method_config("npo"),
    "NPO+RT": method_config("npo+rt"),
    "SimNPO": method_config("simnpo"),
    "SimNPO+RT": method_config("simnpo+rt"),
}
_PUBLISHED = (
    "forget10 FQ / MU: GA 2.2e-16 / 0.00, GradDiff 3.7e-15 / 0.54, IDK 2.9e-14 / 0.54, NPO 0.29 / "
    "0.55, SimNPO 0.45 / 0.62"
)


class Scores(NamedTuple):
    """What models are compared with on one forget set.

    Attributes:
      evaluation: the questions.
      logs: of the original model.
      retrained_logs: of the model that never saw the forget set.
    """

    evaluation: Evaluation
    logs: dict
    retrained_logs: dict

    def report(self, logs: dict) -> TofuReport:
        """The report of one model's logs."""
        return tofu_report(logs, self.retrained_logs)

    def path(self, found: dict) -> dict[str, np.ndarray]:
        """Numbers along a path, the original first: `[snapshots + 1]` each."""
        steps = [self.logs, *(found[name] for name in sorted(found, key=int))]
        reports = [self.report(logs) for logs in steps]
        return {
            "fq": np.array([report.forget_quality for report in reports]),
            "ks": np.array([report.ks_statistic for report in reports]),
            "mu": np.array([report.model_utility for report in reports]),
            "prob": np.array([report.metrics["forget"]["prob"] for report in reports]),
            "nll": np.array([logs[SPLITS["forget"]]["avg_gt_loss"].mean() for logs in steps]),
        }


def scores(
    bench: Bench, run: Run, known: Any, start: Any, percent: float, questions: int
) -> Scores:
    """Evaluates the original and the retrained model on a forget set of `percent`."""
    retain, forget = bench.split(percent)
    evaluation = bench.evaluation(forget, retain, questions)
    never = retrained(bench, run, start, percent)
    logs = run.once(
        f"tofu_scores_{percent:g}",
        lambda: {"original": evaluation.logs(known), "retrained": evaluation.logs(never)},
    )
    return Scores(evaluation, logs["original"], logs["retrained"])


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """All methods at `forget_percent`."""
    percent = config.forget_percent
    known = original(bench, run, start)
    retain, forget = bench.split(percent)
    judged = scores(bench, run, known, start, percent, config.tofu_questions)
    never = retrained(bench, run, start, percent)
    chosen = {name: METHODS[name] for name in config.tofu_methods}
    results = {}
    for name, cfg in progress(chosen.items(), "methods"):
        recipe = Recipe(cfg, config.lr, config.epochs, snapshots=config.tofu_snapshots)

        def one(recipe: Recipe = recipe) -> dict:
            path = unlearned(
                bench, known, forget, retain, recipe, study_key(config, "methods: unlearning")
            )
            logs = judged.evaluation.path_logs(path)
            return {"logs": logs, "fluency": _fluency(bench, judged.evaluation, never, logs)}

        results[name] = run.once(f"tofu_{percent:g}_{name}", one)
    paths = {name: judged.path(result["logs"]) for name, result in results.items()}
    for name, path in paths.items():
        for step in range(len(path["fq"])):
            run.log(step, **{f"tofu/{name}/{field}": path[field][step] for field in path})
    run.figure("tofu_paths", figures.tofu_paths(paths, judged.report(judged.retrained_logs)))
    run.write_text("answers.md", _sample_answers(judged, results))
    weights = run.once("tofu_weights", functools.partial(_weights, bench, forget, judged, results))
    run.figure("weights", figures.weights(weights))
    return [
        _collapse(config, paths, percent),
        _balance(config, judged, paths, percent),
        _sense(config, judged, results),
        _evenness_of_weights(weights),
    ]


def _fluency(bench: Bench, evaluation: Evaluation, never: Any, logs: dict) -> np.ndarray:
    """NLL per token of the last greedy answers under the retrained model, `[questions]`."""
    answers = logs[max(logs, key=int)]["answers"]
    questions = [qa.question for qa in evaluation.sets["forget"]]
    rows = bench.speaker.encode(list(zip(questions, map(str, answers), strict=True)))
    return answer_nll(bench.speaker.apply_fn, never, rows)


def _weights(bench: Bench, forget: np.ndarray, judged: Scores, results: dict) -> dict:
    """Weights of NPO and SimNPO `[snapshots + 1, questions]` along their own paths."""
    count = len(judged.evaluation.sets["forget"])
    length = answer_lengths(take(bench.author_rows, forget[:count]))
    before = -judged.logs[SPLITS["forget"]]["avg_gt_loss"] * length
    found = {"length": length}
    for name, weigh in (("NPO+RT", npo_weight), ("SimNPO+RT", simnpo_weight)):
        if name not in results:
            continue
        logs = results[name]["logs"]
        logp = np.stack(
            [before]
            + [-logs[i][SPLITS["forget"]]["avg_gt_loss"] * length for i in sorted(logs, key=int)]
        )
        beta = METHODS[name].beta
        second = before if name == "NPO+RT" else length
        found[name] = np.stack([np.asarray(weigh(row, second, beta=beta)) for row in logp])
    return found


def _collapse(config, paths: dict, percent: float) -> Claim:
    end = {name: path["mu"][-1] for name, path in paths.items() if name.startswith("GA")}
    return Claim(
        "N1-tofu",
        "Methods based on gradient ascent collapse on TOFU",
        "MU 0.00 (GA)",
        ", ".join(f"{name} MU {mu:.3f}" for name, mu in end.items()),
        _judged(config, end.get("GA", 1) < 0.05),
        detail=f"Mini-TOFU, forget {percent:g}%, at the end; the original has MU "
        f"{paths[next(iter(paths))]['mu'][0]:.3f}. Criterion: GA's MU < 0.05.",
    )


def _balance(config, judged: Scores, paths: dict, percent: float) -> Claim:
    end = {name: (path["fq"][-1], path["mu"][-1], path["ks"][-1]) for name, path in paths.items()}
    before = judged.report(judged.logs)
    others = [fq for name, (fq, _, _) in end.items() if name.startswith(("GA", "IDK", "DPO"))]
    fq, mu, _ = end["NPO+RT"]
    met = fq >= 10 * max(others) and mu >= 0.9 * before.model_utility and end["GA"][1] < 0.05
    never = judged.report(judged.retrained_logs)
    useful = {
        name: max((q for q, u in zip(path["fq"], path["mu"], strict=True) if u >= floor), default=0)
        for name, path in paths.items()
        for floor in (0.9 * before.model_utility,)
    }
    return Claim(
        "N4",
        "NPO balances forgetting and utility better than its baselines on TOFU",
        _PUBLISHED,
        f"FQ / MU: NPO+RT {fq:.2g} / {mu:.3f}, best FQ of GA, IDK, DPO {max(others):.2g}, GA's MU "
        f"{end['GA'][1]:.3f}",
        _judged(config, met),
        detail=f"Mini-TOFU (a small model trained here), forget {percent:g}%, "
        f"{len(judged.evaluation.sets['forget'])} forget questions, one seed, {config.epochs} "
        f"epochs at {config.lr:g}. FQ / MU / KS distance at the end: original "
        f"{before.forget_quality:.2g} / {before.model_utility:.3f} / {before.ks_statistic:.2f}, "
        f"retrained 1 / {never.model_utility:.3f} / 0; "
        + ", ".join(f"{name} {q:.2g} / {u:.3f} / {k:.2f}" for name, (q, u, k) in end.items())
        + ". A collapsed model can reach a high FQ by accident; best FQ of checkpoints with MU >= "
        "0.9 of the original's: "
        + ", ".join(f"{name} {quality:.2g}" for name, quality in useful.items())
        + ". Criterion: NPO+RT's FQ at least ten times that of every GA, IDK and DPO row, MU >= "
        "0.9 of the original's, GA's MU < 0.05.",
    )


def _sense(config, judged: Scores, results: dict) -> Claim:
    circles = {
        name: float(result["logs"][max(result["logs"], key=int)]["repetition"].mean())
        for name, result in results.items()
    }
    fluency = {name: float(result["fluency"].mean()) for name, result in results.items()}
    met = min(circles["GA"], circles["GA+RT"]) >= 0.9 and circles["NPO+RT"] <= 0.5
    return Claim(
        "N5",
        "NPO's answers stay sensible, those of gradient ascent are gibberish",
        "examples (Fig. 7)",
        "repeated 2-grams: "
        + ", ".join(f"{name} {circles[name]:.2f}" for name in ("GA", "GA+RT", "NPO+RT")),
        _judged(config, met),
        detail="Greedy answers to forget questions; original "
        f"{judged.logs['repetition'].mean():.2f}, retrained "
        f"{judged.retrained_logs['repetition'].mean():.2f}; "
        + ", ".join(f"{name} {rate:.2f}" for name, rate in circles.items())
        + ". NLL per token under the retrained model: "
        + ", ".join(f"{name} {value:.1f}" for name, value in fluency.items())
        + ". Answers are in artifacts/answers.md. Criterion: GA and GA+RT >= 0.9, NPO+RT <= 0.5.",
    )


def _evenness_of_weights(weights: dict) -> Claim:
    length = weights["length"]
    start_npo, start_simple = weights["NPO+RT"][0], weights["SimNPO+RT"][0]

    def correlation(name: str, step: int) -> str:
        row = weights[name][step]
        return f"{np.corrcoef(row, length)[0, 1]:.2f}" if row.std() > 1e-6 else "none (all equal)"

    steps = {"start": 0, "first snapshot": 1, "end": -1}
    first = np.corrcoef(start_simple, length)[0, 1]
    return Claim(
        "S3",
        "At the start NPO weighs every example alike; SimNPO's weights depend on length and data",
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


def _judged(config, condition) -> str:
    """The criteria are for models that know what they shall forget."""
    return holds(condition) if config.tofu_authors >= 20 else "reported"
