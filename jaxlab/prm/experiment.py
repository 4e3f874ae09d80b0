"""Claims of the AutoPRM paper, on generated problems or a checkpoint: `run(config, run)`."""

import dataclasses
import functools
import tempfile
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.prm import figures, sequential
from jaxlab.prm.claims import checkpoint_claims, judge_claims
from jaxlab.prm.compact import EPSILONS, describe
from jaxlab.prm.studies import arms, measures, rollouts
from jaxlab.prm.studies.checkpoint import measure_checkpoint
from jaxlab.prm.studies.config import PRESETS, TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import draw_problems, plans_at
from jaxlab.prm.tampering import reading_drift
from jaxlab.prm.verifier import Verifier
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


def run_autoprm(key: jax.Array, config: AutoPRMConfig, workdir=None) -> AutoPRMResult:
    """Runs the experiment; `key` replaces the seed of `config`.

    With a workdir its metrics, figures, transcripts and claims stay there, and a run that was
    interrupted goes on.
    """
    config = dataclasses.replace(config, seed=int(jax.random.bits(key) >> 1))
    if workdir is not None:
        with Run(workdir, config) as run_:
            return _measure(config, run_)
    with tempfile.TemporaryDirectory() as folder, Run(folder, config) as run_:
        return _measure(config, run_)


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the experiment and writes the claims."""
    return list(_measure(config, run).claims)


def _measure(config: AutoPRMConfig, run: Run) -> AutoPRMResult:
    return (_measure_texts if config.problems == "texts" else _measure_generated)(config, run)


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


def _measure_generated(config: AutoPRMConfig, run: Run) -> AutoPRMResult:
    taken: set[str] = set()
    rng = np.random.default_rng((config.seed, 0))
    test = draw_problems(rng, TOY, config.test_problems, taken)
    planned = draw_problems(rng, TOY, config.plan_problems, taken)
    base = run.once("base", lambda: arms.train_base(config, set(taken)))
    seeds = [
        _one_seed(config, run, base["params"], s, test, planned, taken)
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


def _one_seed(config, run: Run, base, seed: int, test, planned, taken) -> dict:
    """All stages and measurements of one seed, each kept in the run."""
    plans = plans_at(test, config.epsilon)

    def prepare(cgd: bool, share: float, labels: str):
        def compute():
            stage = arms.fine_tune(config, base, seed, taken, cgd=cgd)
            verifier, quality = arms.judge(config, stage, seed, taken, share=share, labels=labels)
            return {
                "gold": stage.gold,
                "base": stage.base,
                "params": stage.params,
                "verifier": verifier._asdict(),
                "quality": quality,
            }

        return compute

    stages, found = {}, {}
    for name, cgd, share, labels in (
        ("cgd", True, 1.0, config.labels),
        ("no_cgd", False, 1.0, config.labels),
        ("few", True, 0.1, "subanswer"),
        ("rollout", True, 1.0, "rollout"),
    ):
        if seed and name in arms.ONE_SEED:
            continue
        kept = run.once(f"seed{seed}_{name}", prepare(cgd, share, labels))
        verifier = Verifier(**kept["verifier"])
        stages[name] = arms.Stage(kept["gold"], kept["base"], kept["params"], verifier, cgd)
        found[f"quality_{name}"] = kept["quality"]
    for name, (stage, accept) in arms.ARMS.items():
        if seed and name in arms.ONE_SEED:
            continue
        found[name] = run.once(
            f"seed{seed}_{name}",
            functools.partial(
                arms.iterate, config, stages[stage], accept(config), plans, seed, taken
            ),
        )
        for step, (final, reward) in enumerate(
            zip(found[name]["final"], found[name]["reward"], strict=True)
        ):
            run.log(step, **{f"{name}/final_{seed}": final, f"{name}/reward_{seed}": reward})
    solver, stage = found["autoprm"]["params"], stages["cgd"]
    key = arms.sampling_key(config, 2, seed)
    found["plans"] = run.once(
        f"seed{seed}_plans",
        lambda: measures.decompositions(config, stage.params, stage.verifier, planned),
    )
    found["sweep"] = run.once(
        f"seed{seed}_sweep",
        lambda: measures.granularity_sweep(config, solver, stage.verifier, planned, key),
    )
    found["votes"] = run.once(
        f"seed{seed}_votes",
        lambda: measures.votes(config, solver, stage.params, stage.verifier, test, key),
    )
    if seed == 0:
        found["provenance"] = run.once(
            "provenance",
            lambda: {
                "same": measures.provenance(
                    config, stage, arms.by_subquestion(config), plans[: config.round_problems]
                )
            },
        )["same"]
        run.write_text("transcripts.txt", _transcripts(config, stage, solver, test, plans))
    return found


def _transcripts(config, stage, solver, test, plans, count: int = 12) -> str:
    """Problems with the greedy steps of the solver before and after iteration."""
    lines = []
    for name, params in (("fine-tuned", stage.params), ("after iteration", solver)):
        roll = rollouts.sample(
            jax.random.key(0),
            params,
            stage.verifier,
            config.network(),
            plans,
            epsilon=config.epsilon,
            choose=sequential.only,
            sampling=rollouts.GREEDY,
        )
        for p, plan in enumerate(plans[:count]):
            lines += [f"[{name}] {test[p].problem}"]
            for t, question in enumerate(plan.questions):
                answer = describe(roll.tokens[p, t, 0].tolist())
                mark = "right" if roll.answer[p, t, 0] == plan.answers[t] else "WRONG"
                lines.append(
                    f"    {describe(question):<14} {answer:<44} {mark}, "
                    f"verifier {roll.reward[p, t, 0]:.2f}"
                )
            lines.append("")
    return "\n".join(lines)


def _draw(run: Run, seeds, curves, drift):
    run.figure("arms", figures.accuracy_by_round(curves))
    run.figure("tampering", figures.tampering(curves, drift))
    run.figure(
        "granularity", figures.granularity([s["sweep"] for s in seeds], [s["plans"] for s in seeds])
    )
    run.figure("votes", figures.spending([s["votes"] for s in seeds]))
    run.figure("length", figures.by_length([s["votes"] for s in seeds]))
