"""N6: forgetting half of the authors."""

from typing import Any

import numpy as np

from jaxlab.runs import Claim, Run, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, unlearned, verdict
from jaxlab.unlearn.studies.tofu_comparison import Scores, scores

STATEMENTS = {
    "N6": "NPO is the first method with reasonable results when half of the data is forgotten",
}
_PERCENT = 50
_FORGOTTEN = 0.01
# The same number of settings for each method: the paper's retain weight there, and larger ones.
_SETTINGS = {
    "NPO+RT": [
        method_config("npo+rt", retain_coeff=5.0),
        method_config("npo+rt", beta=0.02, retain_coeff=10.0),
        method_config("npo+rt", beta=0.02, retain_coeff=30.0),
    ],
    "GA+RT": [method_config("ga+rt", retain_coeff=c) for c in (5.0, 10.0, 30.0)],
    "GA+KL": [method_config("ga+kl", retain_coeff=c) for c in (5.0, 10.0, 30.0)],
}


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """Every epoch of every setting; the best utility among checkpoints that have forgotten."""
    found = [_one(config, run, bench._replace(number=n), start) for n in range(config.num_seeds)]
    judged, paths = found[0]
    run.figure("half", figures.half(paths, judged.report(judged.retrained_logs)))
    return [_claim(config, found)]


def _one(config, run: Run, bench: Bench, start: Any) -> tuple[Scores, dict]:
    """Scores of one model, and the numbers along every path."""
    known = original(bench, run, start)
    retain, forget = bench.split(_PERCENT)
    judged = scores(bench, run, known, start, _PERCENT, config.tofu_questions)
    paths = {}
    for name, settings in progress(_SETTINGS.items(), "half of the authors"):
        for number, cfg in enumerate(settings[: config.half_settings]):
            epochs = config.half_epochs
            recipe = Recipe(cfg, config.lr, epochs, snapshots=epochs)

            def one(recipe: Recipe = recipe) -> dict:
                key = bench.key("half: unlearning")
                path = unlearned(bench, known, forget, retain, recipe, key)
                return judged.evaluation.path_logs(path)

            found = run.once(f"tofu_half_{name}_{number}_{bench.number}", one)
            paths[f"{name} {number + 1}"] = judged.path(found)
    return judged, paths


def _best(paths: dict) -> dict[str, float | None]:
    """The highest utility of each method among checkpoints that have forgotten."""
    best = {}
    for name in _SETTINGS:
        reached = [
            path["mu"][i]
            for label, path in paths.items()
            if label.startswith(name)
            for i in range(1, len(path["mu"]))
            if path["prob"][i] <= _FORGOTTEN
        ]
        best[name] = max(reached, default=None)
    return best


def _share(utility: float | None, before: float) -> str:
    if utility is None:
        return "never forgot"
    # A model that knows nothing yet has no utility to compare with.
    return f"{utility / before:.2f}" if before else f"{utility:.3f}"


def _claim(config, found: list[tuple[Scores, dict]]) -> Claim:
    before = [judged.report(judged.logs).model_utility for judged, _ in found]
    best = [_best(paths) for _, paths in found]
    shown = {
        name: " ".join(_share(each[name], mu) for each, mu in zip(best, before, strict=True))
        for name in _SETTINGS
    }
    met = all(
        each["NPO+RT"] is not None and each["NPO+RT"] >= 0.85 * mu
        for each, mu in zip(best, before, strict=True)
    )
    useful = [
        max(
            (
                path["fq"][i]
                for label, path in paths.items()
                if label.startswith("NPO")
                for i in range(1, len(path["mu"]))
                if path["mu"][i] >= 0.9 * path["mu"][0]
            ),
            default=0,
        )
        for _, paths in found
    ]
    ends = found[0][1]
    return Claim(
        "N6",
        STATEMENTS["N6"],
        "Forget50: FQ > 0.05 with useful utility (Fig. 8)",
        f"best MU once the forget probability is <= {_FORGOTTEN}, as a share of the original's: "
        + ", ".join(f"{name} {text}" for name, text in shown.items()),
        verdict(config, met),
        detail=f"Mini-TOFU, {config.half_epochs} epochs at {config.lr:g}, every epoch evaluated, "
        f"{config.half_settings} settings a method, {config.num_seeds} models; original MU "
        f"{np.mean(before):.3f}. Best FQ of NPO+RT at MU >= 0.9 of that: "
        + " ".join(f"{value:.2g}" for value in useful)
        + " (reported). At the end of the first, forget probability / MU / FQ: "
        + "; ".join(
            f"{label} {path['prob'][-1]:.3f} / {path['mu'][-1]:.3f} / {path['fq'][-1]:.2g}"
            for label, path in ends.items()
        )
        + ". Criterion, for every model: NPO+RT's best MU >= 0.85 of the original's.",
    )
