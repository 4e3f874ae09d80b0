"""Claims of the AutoPRM paper, on generated problems or a checkpoint: `run(config, run)`."""

import dataclasses
import tempfile
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.prm import figures
from jaxlab.prm.claims import checkpoint_claims, judge_claims
from jaxlab.prm.compact import EPSILONS
from jaxlab.prm.studies import arms
from jaxlab.prm.studies.checkpoint import measure_checkpoint
from jaxlab.prm.studies.config import PRESETS, AutoPRMConfig
from jaxlab.prm.studies.one_seed import held_out, measure_seed
from jaxlab.prm.studies.speculation import Search
from jaxlab.prm.studies.stages import train_base
from jaxlab.prm.tampering import reading_drift
from jaxlab.runs import Claim, Run

__all__ = ["PRESETS", "AutoPRMConfig", "AutoPRMResult", "Config", "run", "run_autoprm"]

Config = AutoPRMConfig


class AutoPRMResult(NamedTuple):
    """accuracy: final accuracy by arm, means over seeds. granularity: asked to realised.
    curves: arm to arrays [seeds, rounds + 1]. claims: the rows."""

    accuracy: dict[str, float]
    granularity: dict[float, float]
    curves: dict[str, dict[str, np.ndarray]]
    claims: tuple[Claim, ...]


def run_autoprm(
    key: jax.Array, config: AutoPRMConfig, workdir=None, search: Search | None = None
) -> AutoPRMResult:
    """Runs the experiment; `key` replaces the seed of `config`.

    With a workdir its metrics, figures, transcripts and claims stay there, and a run that was
    interrupted goes on. search: best-of-N that drops rows part-way (`scripts/autoprm.py` passes
    speculative rejection), for claim A7 on generated problems; None leaves that part out.
    """
    config = dataclasses.replace(config, seed=int(jax.random.bits(key) >> 1))
    if workdir is not None:
        with Run(workdir, config) as run_:
            return _measure(config, run_, search)
    with tempfile.TemporaryDirectory() as folder, Run(folder, config) as run_:
        return _measure(config, run_, search)


def run(config: Config, run: Run, search: Search | None = None) -> list[Claim]:
    """Runs the experiment and writes the claims; search: see `run_autoprm`."""
    return list(_measure(config, run, search).claims)


def _measure(config: AutoPRMConfig, run: Run, search: Search | None) -> AutoPRMResult:
    if config.problems == "texts":
        return _measure_texts(config, run)
    return _measure_generated(config, run, search)


def _measure_texts(config: AutoPRMConfig, run: Run) -> AutoPRMResult:
    """The pipeline on a user's checkpoint; nothing but reasons where there is none."""
    if not config.model:
        rows = run.write_claims(checkpoint_claims(config, None))
        return AutoPRMResult({}, {}, {}, tuple(rows))
    found = measure_checkpoint(config, run)
    curves, switch = found["curves"], found["realised"]
    run.figure("arms", figures.checkpoint_rounds(curves))
    accuracy = {name: float(curve["final"][0, -1]) for name, curve in curves.items()}
    accuracy["sft"] = float(curves["autoprm"]["final"][0, 0])
    return AutoPRMResult(
        accuracy,
        dict(zip(switch["epsilon"].tolist(), switch["realised"].tolist(), strict=True)),
        curves,
        tuple(run.write_claims(checkpoint_claims(config, found))),
    )


def _measure_generated(config: AutoPRMConfig, run: Run, search: Search | None) -> AutoPRMResult:
    problems = held_out(config)
    base = run.once("base", lambda: train_base(config, set(problems.taken)))
    seeds = [
        measure_seed(config, run, base["params"], s, problems, search)
        for s in range(config.num_seeds)
    ]
    names = [name for name in seeds[0] if name in arms.ARMS]
    curves = {
        name: {
            field: np.stack([seed[name][field] for seed in seeds if name in seed])
            for field in seeds[0][name]
            if field != "params"
        }
        for name in names
    }
    drift = {
        name: reading_drift([0.5, 0.5], [0.95, 0.6], accepted, [False, True], 5)
        for name, accepted in (("without", [1, 1]), ("with", [0, 1]))
    }
    claims = judge_claims(config, float(base["look_up"]), seeds, curves)
    _draw(run, seeds, curves, drift)
    realised = np.mean([seed["plans"]["realised"] for seed in seeds], axis=(0, 2))
    accuracy = {name: float(curve["final"][:, -1].mean()) for name, curve in curves.items()}
    accuracy["sft"] = float(curves["autoprm"]["final"][:, 0].mean())
    return AutoPRMResult(
        accuracy,
        {epsilon: float(value) for epsilon, value in zip(EPSILONS, realised, strict=True)},
        curves,
        tuple(run.write_claims(claims)),
    )


def _draw(run: Run, seeds, curves, drift):
    run.figure("arms", figures.accuracy_by_round(curves))
    run.figure("tampering", figures.tampering(curves, drift))
    run.figure(
        "granularity", figures.granularity([s["sweep"] for s in seeds], [s["plans"] for s in seeds])
    )
    run.figure("votes", figures.spending([s["votes"] for s in seeds]))
    run.figure("length", figures.by_length([s["votes"] for s in seeds]))
