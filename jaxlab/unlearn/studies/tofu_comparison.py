"""Methods that make a model of mini-TOFU forget one set of authors, evaluated on the way."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlab.runs import Run, progress
from jaxlab.unlearn.answers import answer_nll
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, retrained, unlearned
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


class Comparison(NamedTuple):
    """Methods that made one model forget.

    Attributes:
      judged: the questions, the original and the retrained model.
      results: of each method, `logs` along its path and `fluency` of its last answers.
      paths: of each method, the numbers of `Scores.path`.
    """

    judged: Scores
    results: dict[str, dict]
    paths: dict[str, dict]


def scores(
    bench: Bench,
    run: Run,
    known: Any,
    start: Any,
    percent: float,
    questions: int,
    *,
    retrained_percent: float | None = None,
) -> Scores:
    """Evaluates the original and the retrained model on a forget set of `percent`.

    `retrained_percent`: share of the rows that the retrained model never saw, by default the
    forget set's own; a larger one serves as well, since the forgotten rows are the last ones.
    """
    retain, forget = bench.split(percent)
    evaluation = bench.evaluation(forget, retain, questions)
    unseen = retrained_percent or percent
    never = retrained(bench, run, start, unseen)
    place = f"tofu_scores_{percent:g}_{questions}"
    return Scores(
        evaluation,
        run.once(f"{place}_original_{bench.number}", lambda: evaluation.logs(known)),
        run.once(f"{place}_retrained_{unseen:g}", lambda: evaluation.logs(never)),
    )


def epochs_at(config, percent: float) -> int:
    """Epochs of unlearning: fewer where an epoch has more steps."""
    if percent >= 50:
        return config.half_epochs
    return config.quarter_epochs if percent >= 25 else config.epochs


def compare(
    config, run: Run, bench: Bench, start: Any, percent: float, names: Sequence[str]
) -> Comparison:
    """Makes the model of `bench.number` forget the last `percent` of the rows by every method.

    Less than `forget_percent` is compared with the model that never saw that much.
    """
    known = original(bench, run, start)
    retain, forget = bench.split(percent)
    unseen = max(percent, config.forget_percent)
    judged = scores(
        bench,
        run,
        known,
        start,
        percent,
        config.tofu_questions,
        retrained_percent=unseen,
    )
    never = retrained(bench, run, start, unseen)
    epochs = epochs_at(config, percent)
    snapshots = min(epochs, config.tofu_snapshots) if percent < 25 else epochs
    results = {}
    for name in progress(names, f"methods at {percent:g}%"):
        recipe = Recipe(METHODS[name], config.lr, epochs, snapshots=snapshots)

        def one(recipe: Recipe = recipe) -> dict:
            key = bench.key(f"methods at {percent:g}%: unlearning")
            path = unlearned(bench, known, forget, retain, recipe, key)
            logs = judged.evaluation.path_logs(path)
            return {"logs": logs, "fluency": _fluency(bench, judged.evaluation, never, logs)}

        results[name] = run.once(f"tofu_{percent:g}_{name}_{bench.number}", one)
    return Comparison(
        judged, results, {name: judged.path(result["logs"]) for name, result in results.items()}
    )


def _fluency(bench: Bench, evaluation: Evaluation, never: Any, logs: dict) -> np.ndarray:
    """NLL per token of the last greedy answers under the retrained model, `[questions]`."""
    answers = logs[max(logs, key=int)]["answers"]
    questions = [qa.question for qa in evaluation.sets["forget"]]
    rows = bench.speaker.encode(list(zip(questions, map(str, answers), strict=True)))
    return answer_nll(bench.speaker, never, rows)


def ends(found: Sequence[Comparison], field: str) -> dict[str, np.ndarray]:
    """The last value of every method's path, one a model `[models]`."""
    return {
        name: np.array([each.paths[name][field][-1] for each in found if name in each.paths])
        for name in found[0].paths
    }


def table(found: Sequence[Comparison]) -> str:
    """Every method at the end, with the original and the retrained model."""
    fq, mu, ks = (ends(found, field) for field in ("fq", "mu", "ks"))
    judged = [each.judged for each in found]
    before = [each.report(each.logs) for each in judged]
    never = judged[0].report(judged[0].retrained_logs)
    return (
        f"{len(judged[0].evaluation.sets['forget'])} forget questions, {_models(found)}. FQ / "
        f"MU / KS distance at the end: original {listed([r.forget_quality for r in before])} / "
        f"{mean([r.model_utility for r in before])} / "
        f"{mean([r.ks_statistic for r in before])}, retrained 1 / {never.model_utility:.3f} / 0; "
        + ", ".join(
            f"{name} {listed(fq[name])} / {mean(mu[name])} / {mean(ks[name])}" for name in fq
        )
        + "."
    )


def _models(found: Sequence[Comparison]) -> str:
    return f"{len(found)} model{'s' * (len(found) > 1)}"


def mean(values: Any) -> str:
    """The mean, to three decimals."""
    return f"{np.mean(values):.3f}"


def listed(values: Any) -> str:
    """Numbers one by one: the mean of p-values says nothing."""
    return " ".join(f"{value:.2g}" for value in values)
