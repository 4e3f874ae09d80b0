"""The search for each method's settings: one budget for all methods, one seed, several sizes.

Selected is, for each method and share of forgotten rows, the checkpoint with the highest forget
quality among those that keep at least 0.95 of the original's model utility. Forget quality is
measured against a model that never saw the largest of the forget sets, and so none of them. The
best of several on one seed is no evidence: take another seed for what is then claimed. A cell is a
phase: a run that is stopped goes on with the next cell.
"""

import csv
import io
from typing import Any

from jaxlab.runs import Claim, Run, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import UnlearnConfig, method_config
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, unlearned
from jaxlab.unlearn.studies.tofu_comparison import Scores, epochs_at, scores

CELLS = 8
_USEFUL = 0.95
_RATES = (5e-4, 1e-3)
_RETAIN_COEFFS = (10.0, 5.0, 30.0, 2.0)
# (beta, retain weight), the likeliest first: a smaller budget takes the first cells.
_SOFT = ((0.05, 10.0), (0.02, 30.0), (0.02, 10.0), (0.1, 10.0))
FORMS = {
    "NPO+RT": [method_config("npo+rt", beta=b, retain_coeff=c) for b, c in _SOFT],
    "SimNPO+RT": [
        method_config("simnpo+rt", beta=b, gamma=g, forget_coeff=1.0, retain_coeff=c)
        for b, g, c in ((1.0, 2.0, 10.0), (1.0, 0.0, 5.0), (0.5, 2.0, 30.0), (1.0, 2.0, 1.0))
    ],
    "GA+RT": [method_config("ga+rt", retain_coeff=c) for c in _RETAIN_COEFFS],
    "IDK+RT": [method_config("idk+rt", retain_coeff=c) for c in _RETAIN_COEFFS],
    "DPO+RT": [method_config("dpo+rt", beta=b, retain_coeff=c) for b, c in _SOFT],
}
_NUMBERS = ("beta", "gamma", "forget_coeff", "retain_coeff")
_COLUMNS = ("percent", "method", *_NUMBERS, "lr", "epoch", "fq", "ks", "mu", "prob", "nll")


def cells(name: str) -> list[tuple[UnlearnConfig, float]]:
    """(method, peak learning rate) of every cell of a method; neighbours differ in both."""
    forms = FORMS[name]
    first = [(form, _RATES[i % 2]) for i, form in enumerate(forms)]
    return first + [(form, _RATES[(i + 1) % 2]) for i, form in enumerate(forms)]


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """Runs every cell, selects, and leaves `search.csv` and `selected.json` in `artifacts`."""
    rows, selected = [], []
    for percent in config.search_percents:
        judged, found = _cells(config, run, bench, start, percent)
        table = [row for cell in found for row in _rows(config, percent, *cell)]
        best = _best(table, judged.report(judged.logs).model_utility)
        rows += table
        selected += best
        # After every share of the rows, so that a run that is cut short leaves what it found.
        run.write_text("search.csv", _as_csv(rows, selected))
        run.write_json("selected.json", selected)
        run.figure("search", figures.search(rows, selected))
    return [_claim(config, rows, selected)]


def _cells(config, run: Run, bench: Bench, start: Any, percent: float) -> tuple[Scores, list]:
    """The scores of a forget set, and (method, cell, path) of every cell."""
    known = original(bench, run, start)
    retain, forget = bench.split(percent)
    judged = scores(
        bench,
        run,
        known,
        start,
        percent,
        config.tofu_questions,
        retrained_percent=max(config.search_percents),
    )
    epochs = epochs_at(config, percent)
    found = []
    every = [(name, i) for i in range(config.search_cells) for name in config.search_methods]
    for name, number in progress(every, f"search at {percent:g}%"):
        cfg, lr = cells(name)[number]
        recipe = Recipe(cfg, lr, epochs, batch_size=20, snapshots=_snapshots(epochs))

        def one(recipe: Recipe = recipe) -> dict:
            key = bench.key(f"search at {percent:g}%: unlearning")
            return judged.evaluation.path_logs(unlearned(bench, known, forget, retain, recipe, key))

        path = judged.path(run.once(f"search_{percent:g}_{name}_{number}", one))
        found.append((name, number, path))
    return judged, found


def _snapshots(epochs: int) -> int:
    """Every second epoch is evaluated, where that divides."""
    return epochs // 2 if epochs % 2 == 0 else epochs


def _rows(config, percent: float, name: str, number: int, path: dict) -> list[dict]:
    cfg, lr = cells(name)[number]
    fixed = {"percent": percent, "method": name, "cell": number, "lr": lr}
    fixed |= {field: getattr(cfg, field) for field in _NUMBERS}
    measured = ("fq", "ks", "mu", "prob", "nll")
    count = len(path["mu"]) - 1
    stretch = epochs_at(config, percent) // count
    return [
        fixed | {"epoch": i * stretch} | {field: float(path[field][i]) for field in measured}
        for i in range(1, count + 1)
    ]


def _best(table: list[dict], utility: float) -> list[dict]:
    """Of each method the useful row with the highest forget quality, where there is one."""
    useful = [row for row in table if row["mu"] >= _USEFUL * utility]
    found = [[row for row in useful if row["method"] == name] for name in FORMS]
    return [max(mine, key=lambda row: row["fq"]) for mine in found if mine]


def _as_csv(rows: list[dict], selected: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "selected"])
    for row in rows:
        values = [row[column] for column in _COLUMNS]
        shown = [f"{value:.6g}" if isinstance(value, float) else value for value in values]
        writer.writerow([*shown, int(row in selected)])
    return text.getvalue()


def _claim(config, rows: list[dict], selected: list[dict]) -> Claim:
    said = []
    for percent in config.search_percents:
        chosen = {row["method"]: row for row in selected if row["percent"] == percent}
        said.append(
            f"{percent:g}%: "
            + ", ".join(
                f"{name} {chosen[name]['fq']:.2g} / {chosen[name]['mu']:.3f}"
                if name in chosen
                else f"{name} none"
                for name in config.search_methods
            )
        )
    return Claim(
        "search",
        "Settings of each method, found with one budget",
        "",
        f"FQ / MU of the selected checkpoints: {'; '.join(said)}",
        "reported",
        detail=f"Mini-TOFU, {config.search_cells} settings a method and size, {len(rows)} "
        f"checkpoints on {config.tofu_questions} questions, seed {config.seed}; selected by FQ at "
        f"MU >= {_USEFUL} of the original's. "
        + "; ".join(f"{row['percent']:g}% {row['method']}: {_settings(row)}" for row in selected)
        + ". The best of several on one seed: the claims are made on other seeds.",
    )


def _settings(row: dict) -> str:
    names = (*_NUMBERS, "lr", "epoch")
    return ", ".join(f"{name} {row[name]:g}" for name in names) + f" (KS {row['ks']:.3f})"
