"""The search for each method's settings, on one seed and with one budget for all methods.

Selected is, for each method, the checkpoint with the highest forget quality among those that keep
at least 0.95 of the original's model utility, every epoch looked at. `--forget_percent` says how
much is forgotten. A cell is a phase: a run that is stopped goes on with the next cell.
"""

import itertools
from typing import Any

from jaxlab.runs import Claim, Run, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import UnlearnConfig, method_config
from jaxlab.unlearn.studies.seeds import study_key
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, unlearned
from jaxlab.unlearn.studies.tofu_methods import scores

CELLS = 8
_USEFUL = 0.95
_RATES = (5e-4, 1e-3)
_RETAIN_COEFFS = (2.0, 5.0, 10.0, 30.0)
_SMALL_BETAS = (0.01, 0.02, 0.05, 0.1)
_FORMS = {
    "NPO+RT": [method_config("npo+rt", beta=b, retain_coeff=10.0) for b in _SMALL_BETAS],
    "SimNPO+RT": [
        method_config("simnpo+rt", beta=b, gamma=g, forget_coeff=1.0)
        for b, g in ((1.0, 2.0), (0.5, 0.0), (1.0, 0.0), (0.5, 2.0))
    ],
    "GA+RT": [method_config("ga+rt", retain_coeff=c) for c in _RETAIN_COEFFS],
    "IDK+RT": [method_config("idk+rt", retain_coeff=c) for c in _RETAIN_COEFFS],
    "DPO+RT": [method_config("dpo+rt", beta=b, retain_coeff=10.0) for b in _SMALL_BETAS],
}


def cells(name: str) -> list[tuple[UnlearnConfig, float]]:
    """(method, peak learning rate) of every cell of a method."""
    return list(itertools.product(_FORMS[name], _RATES))


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """Runs every cell, selects, and leaves the selection in `artifacts/selected.json`."""
    percent = config.forget_percent
    known = original(bench, run, start)
    retain, forget = bench.split(percent)
    judged = scores(bench, run, known, start, percent, config.quarter_questions)
    selected, paths = {}, {}
    every = [(name, i) for i in range(config.search_cells) for name in _FORMS]
    for name, number in progress(every, "search"):
        cfg, lr = cells(name)[number]
        recipe = Recipe(cfg, lr, config.epochs, batch_size=20, snapshots=config.epochs)

        def one(recipe: Recipe = recipe) -> dict:
            path = unlearned(
                bench, known, forget, retain, recipe, study_key(config, "search: unlearning")
            )
            return judged.evaluation.path_logs(path)

        path = judged.path(run.once(f"search_{percent:g}_{name}_{number}", one))
        for epoch in _useful_epochs(path):
            found = _checkpoint(cfg, lr, epoch, path)
            if name not in selected or found["fq"] > selected[name]["fq"]:
                selected[name], paths[name] = found, path
    run.write_json("selected.json", selected)
    if paths:
        figure = figures.tofu_paths(paths, judged.report(judged.retrained_logs))
        run.figure("search", figure)
    before = judged.report(judged.logs)
    said = [
        f"{name} {selected[name]['fq']:.2g} / {selected[name]['mu']:.3f}"
        if name in selected
        else f"{name} none"
        for name in _FORMS
    ]
    return [
        Claim(
            "search",
            "Settings of each method, found with one budget",
            "",
            f"FQ / MU of the selected checkpoints: {', '.join(said)}",
            "reported",
            detail=f"Mini-TOFU, forget {percent:g}%, {config.search_cells} settings a method, "
            f"every one of {config.epochs} epochs, one seed; selected by FQ at MU >= {_USEFUL} of "
            f"the original's {before.model_utility:.3f} (its FQ {before.forget_quality:.2g}). "
            + "; ".join(f"{name}: {_settings(row)}" for name, row in selected.items())
            + ". The best of several on one seed: judge them on other seeds.",
        )
    ]


def _useful_epochs(path: dict) -> list[int]:
    floor = _USEFUL * path["mu"][0]
    return [epoch for epoch in range(1, len(path["mu"])) if path["mu"][epoch] >= floor]


def _checkpoint(cfg: UnlearnConfig, lr: float, epoch: int, path: dict) -> dict:
    names = ("beta", "gamma", "forget_coeff", "retain_coeff")
    return {
        **{name: getattr(cfg, name) for name in names},
        "lr": lr,
        "epoch": epoch,
        **{name: float(path[name][epoch]) for name in ("fq", "ks", "mu", "prob", "nll")},
    }


def _settings(row: dict) -> str:
    names = ("beta", "gamma", "forget_coeff", "retain_coeff", "lr", "epoch")
    return ", ".join(f"{name} {row[name]:g}" for name in names) + f" (KS {row['ks']:.3f})"
