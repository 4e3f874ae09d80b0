"""N6: forgetting half of the authors."""

from jaxlab.runs import Claim, Run, holds, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.studies.seeds import study_key
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, unlearned
from jaxlab.unlearn.studies.tofu_methods import scores

STATEMENTS = {
    "N6": "NPO is the first method with reasonable results when half of the data is forgotten",
}
_PERCENT = 50
_FORGOTTEN = 0.01
# The same number of settings for each method: the paper's retain weight there, and a larger one.
_SETTINGS = {
    "NPO+RT": [
        method_config("npo+rt", retain_coeff=5.0),
        method_config("npo+rt", beta=0.02, retain_coeff=10.0),
    ],
    "GA+RT": [method_config("ga+rt", retain_coeff=c) for c in (5.0, 10.0)],
    "GA+KL": [method_config("ga+kl", retain_coeff=c) for c in (5.0, 10.0)],
}


def measure(config, run: Run, bench: Bench, start) -> list[Claim]:
    """Every epoch of every setting; the best utility among checkpoints that have forgotten."""
    known = original(bench, run, start)
    retain, forget = bench.split(_PERCENT)
    judged = scores(bench, run, known, start, _PERCENT, config.tofu_questions)
    paths = {}
    for name, settings in progress(_SETTINGS.items(), "half of the authors"):
        for number, cfg in enumerate(settings[: config.half_settings]):
            epochs = config.half_epochs
            recipe = Recipe(cfg, config.lr, epochs, snapshots=epochs)

            def one(recipe: Recipe = recipe) -> dict:
                path = unlearned(
                    bench, known, forget, retain, recipe, study_key(config, "half: unlearning")
                )
                return judged.evaluation.path_logs(path)

            found = run.once(f"tofu_half_{name}_{number}", one)
            paths[f"{name} {number + 1}"] = judged.path(found)
    run.figure("half", figures.half(paths, judged.report(judged.retrained_logs)))
    return [_claim(config, judged, paths)]


def _claim(config, judged, paths: dict) -> Claim:
    before = judged.report(judged.logs).model_utility
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
    shown = {
        name: "never forgot"
        if mu is None
        # A model that knows nothing yet has no utility to compare with.
        else f"{mu:.3f}" + (f" ({mu / before:.2f} of the original's)" if before else "")
        for name, mu in best.items()
    }
    met = best["NPO+RT"] is not None and best["NPO+RT"] >= 0.85 * before
    useful = [
        path["fq"][i]
        for label, path in paths.items()
        if label.startswith("NPO")
        for i in range(1, len(path["mu"]))
        if path["mu"][i] >= 0.9 * before
    ]
    return Claim(
        "N6",
        STATEMENTS["N6"],
        "Forget50: FQ > 0.05 with useful utility (Fig. 8)",
        f"best MU once the forget probability is <= {_FORGOTTEN}: "
        + ", ".join(f"{name} {text}" for name, text in shown.items()),
        holds(met) if config.tofu_authors >= 20 else "reported",
        detail=f"Mini-TOFU, {config.half_epochs} epochs at {config.lr:g}, every epoch evaluated, "
        f"{config.half_settings} settings a method, one seed; original MU {before:.3f}. Best FQ "
        f"of NPO+RT at MU >= 0.9 of that: {max(useful, default=0):.2g} (reported). At the end, "
        "forget probability / MU / FQ: "
        + "; ".join(
            f"{label} {path['prob'][-1]:.3f} / {path['mu'][-1]:.3f} / {path['fq'][-1]:.2g}"
            for label, path in paths.items()
        )
        + ". Criterion: NPO+RT's best MU >= 0.85 of the original's.",
    )
