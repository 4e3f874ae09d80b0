"""N8 and S8: what the retain weight, the margin and the temperature do."""

import numpy as np

from jaxlab.runs import Claim, Run, progress
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.studies.tofu_bench import Bench, Recipe, original, unlearned
from jaxlab.unlearn.studies.tofu_comparison import scores

STATEMENTS = {
    "N8": "The retain term also raises forget quality: up to weight 2 it grows, beyond it falls",
    "S8": "A larger gamma hurts utility; too small a beta hurts forget quality",
}
_REFERENCE = {"beta": 2.5, "gamma": 0.0}


def measure(config, run: Run, bench: Bench, start) -> list[Claim]:
    """One run for each value, at `forget_percent`."""
    percent = config.forget_percent
    known = original(bench, run, start)
    retain, forget = bench.split(percent)
    judged = scores(bench, run, known, start, percent, config.tofu_questions)

    def end_of(name: str, cfg) -> dict[str, float]:
        def one() -> dict:
            recipe = Recipe(cfg, config.lr, config.epochs)
            key = bench.key("sweeps: unlearning")
            path = unlearned(bench, known, forget, retain, recipe, key)
            return judged.evaluation.path_logs(path)

        path = judged.path(run.once(f"tofu_sweep_{name}", one))
        return {field: float(values[-1]) for field, values in path.items()}

    sweeps = {"retain weight": {}, "gamma": {}, "beta": {}}
    for value in progress(config.retain_coeffs, "retain weights"):
        retain_term = "npo+rt" if value else "npo"
        overrides = {"retain_coeff": value} if value else {}
        cfg = method_config(retain_term, **overrides)
        sweeps["retain weight"][value] = end_of(f"retain_{value:g}", cfg)
    for field, values in (("gamma", config.gammas), ("beta", config.betas)):
        for value in progress(values, field):
            settings = _REFERENCE | {field: value}
            name = f"simnpo_{settings['beta']:g}_{settings['gamma']:g}"
            sweeps[field][value] = end_of(name, method_config("simnpo+rt", **settings))
    run.figure("sweeps", figures.sweeps(sweeps))
    setting = (
        f"Mini-TOFU, forget {percent:g}%, {config.epochs} epochs at {config.lr:g}, one seed, at "
        "the end"
    )
    return [_retain_weight(sweeps, setting), _margin_and_temperature(sweeps, setting)]


def _retain_weight(sweeps: dict, setting: str) -> Claim:
    return Claim(
        "N8",
        STATEMENTS["N8"],
        "forget quality peaks at a weight of 2 (App. C)",
        _listed(sweeps["retain weight"]),
        "reported",
        detail=f"NPO+RT (beta 0.1), retain weight: FQ / MU / NLL per token. {setting}.",
    )


def _margin_and_temperature(sweeps: dict, setting: str) -> Claim:
    utility = np.array([row["mu"] for row in sweeps["gamma"].values()])
    steps = np.diff(utility)
    course = "rises" if (steps > 0.005).any() else "never rises"
    if course == "never rises" and (steps < -0.005).any():
        course = "falls"
    return Claim(
        "S8",
        STATEMENTS["S8"],
        "(App. D)",
        f"gamma: {_listed(sweeps['gamma'])}; beta: {_listed(sweeps['beta'])}",
        "reported",
        detail=f"SimNPO+RT around beta 2.5, gamma 0, weights 0.1375 and 1: FQ / MU / NLL per "
        f"token. {setting}. Utility {course} with gamma.",
    )


def _listed(sweep: dict) -> str:
    return ", ".join(
        f"{value:g}: {row['fq']:.1g} / {row['mu']:.2f} / {row['nll']:.1f}"
        for value, row in sweep.items()
    )
