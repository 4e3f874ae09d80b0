"""Everything that one seed of the main experiment trains and measures."""

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxlab.prm.compact import describe
from jaxlab.prm.decomposition import Decomposition
from jaxlab.prm.studies import (
    arms,
    measures,
    networks,
    policy_gradient,
    speculation,
    stages,
)
from jaxlab.prm.studies.config import COMPARE_TOY, TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import draw_problems, plans_at
from jaxlab.prm.studies.speculation import Search
from jaxlab.prm.studies.stages import Stage
from jaxlab.prm.toy import ToyConfig
from jaxlab.prm.verifier import Verifier
from jaxlab.runs import Run


class HeldOut(NamedTuple):
    """Problems to measure on: `test` by their kind, `planned`; and the texts of all."""

    test: dict[ToyConfig, list[Decomposition]]
    planned: list[Decomposition]
    taken: set[str]


def held_out(config: AutoPRMConfig) -> HeldOut:
    """Draws them; none occurs twice."""
    taken: set[str] = set()
    rng = np.random.default_rng((config.seed, 0))
    test = {TOY: draw_problems(rng, TOY, config.test_problems, taken)}
    planned = draw_problems(rng, TOY, config.plan_problems, taken)
    for toy in {recipe.toy: None for recipe in stages.STAGES.values() if recipe.toy != TOY}:
        test[toy] = draw_problems(rng, toy, config.test_problems, taken)
    return HeldOut(test, planned, taken)


def measure_seed(
    config: AutoPRMConfig,
    run: Run,
    base: dict,
    seed: int,
    problems: HeldOut,
    search: Search | None,
) -> dict[str, Any]:
    """All stages and measurements of one seed, each kept in the run."""
    test, planned, taken = problems.test[TOY], problems.planned, problems.taken
    halves = run.once("half_bases", lambda: networks.train_bases(config, set(taken)))
    built, found = {}, {}
    for name, recipe in stages.STAGES.items():
        if seed and name in arms.ONE_SEED:
            continue

        def prepared(recipe: stages.Recipe = recipe) -> dict[str, Any]:
            stage, quality = stages.prepare(config, recipe, base, seed, taken)
            parts = {"gold": stage.gold, "base": stage.base, "params": stage.params}
            return parts | {"verifier": stage.verifier._asdict(), "quality": quality}

        kept = run.once(f"seed{seed}_{name}", prepared)
        built[name] = Stage(
            kept["gold"],
            kept["base"],
            kept["params"],
            Verifier(**kept["verifier"]),
            recipe.cgd,
            recipe.toy,
        )
        found[f"quality_{name}"] = kept["quality"]
    for name, (stage_name, accept) in arms.ARMS.items():
        if seed and (name in arms.ONE_SEED or stage_name in arms.ONE_SEED):
            continue
        stage = built[stage_name]
        found[name] = run.once(
            f"seed{seed}_{name}",
            functools.partial(
                arms.iterate,
                config,
                stage,
                accept(config),
                plans_at(problems.test[stage.toy], config.epsilon),
                seed,
                taken,
            ),
        )
        for step, (final, reward) in enumerate(
            zip(found[name]["final"], found[name]["reward"], strict=True)
        ):
            run.log(step, **{f"{name}/final_{seed}": final, f"{name}/reward_{seed}": reward})
    solver, stage = found["autoprm"]["params"], built["cgd"]
    key = stages.sampling_key(config, 2, seed)
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
    yes = [d.answer == "yes" for d in problems.test[COMPARE_TOY]]
    found["common_answer"] = max(np.mean(yes), 1 - np.mean(yes))
    found["two_networks"] = run.once(
        f"seed{seed}_two_networks",
        lambda: networks.measure(config, halves, seed, planned, taken),
    )
    plans = plans_at(test, config.epsilon)
    found["rephrased"] = run.once(
        f"seed{seed}_rephrased",
        lambda: measures.tuned_accuracy(
            config,
            stages.fine_tune(config, base, seed, taken, rephrase=True)._replace(
                verifier=stage.verifier
            ),
            plans,
        ),
    )
    if search is not None:
        found["speculation"] = run.once(
            f"seed{seed}_speculation",
            lambda: speculation.measure(
                config,
                search,
                solver,
                stage.verifier,
                plans_at(planned[: config.search_problems], config.epsilon),
                key,
            ),
        )
    if seed == 0:
        found["grpo"] = run.once(
            "grpo",
            lambda: arms.rounds(
                config, stage, policy_gradient.by_group(config, stage), plans, seed, taken
            ),
        )
        found["strong_votes"] = run.once(
            "strong_votes",
            lambda: measures.votes(
                config,
                found["strong_autoprm"]["params"],
                built["strong"].params,
                built["strong"].verifier,
                test,
                key,
            ),
        )
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
        roll = arms.greedy_traces(config, stage, params, plans)
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
