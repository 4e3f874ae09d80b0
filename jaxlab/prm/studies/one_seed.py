"""Everything that one seed of the main experiment trains and measures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxlab.prm.compact import Plan, describe
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


class Seed(NamedTuple):
    """One seed of the main experiment: its settings, where its phases are kept, its problems."""

    config: AutoPRMConfig
    run: Run
    base: dict
    number: int
    problems: HeldOut

    def once(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The results of a phase of this seed."""
        return self.run.once(f"seed{self.number}_{name}", compute)

    def has(self, *names: str) -> bool:
        """Whether this seed runs stages or arms of these names: some run on the first alone."""
        return not self.number or not set(names) & set(arms.ONE_SEED)

    @property
    def plans(self) -> list[Plan]:
        """The test problems of the main kind at the granularity of training."""
        return plans_at(self.problems.test[TOY], self.config.epsilon)


def measure_seed(
    config: AutoPRMConfig,
    run: Run,
    base: dict,
    number: int,
    problems: HeldOut,
    search: Search | None,
) -> dict[str, Any]:
    """All stages and measurements of one seed, each kept in the run."""
    seed = Seed(config, run, base, number, problems)
    built, found = _prepare_stages(seed)
    found |= _iterate_arms(seed, built)
    solver = found["autoprm"]["params"]
    found |= _measure_solver(seed, built["cgd"], solver)
    found |= _tune_otherwise(seed, built["cgd"])
    if search is not None:
        found["speculation"] = _stop_early(seed, built["cgd"], solver, search)
    if number == 0:
        found |= _first_seed_alone(seed, built, found["strong_autoprm"]["params"])
        run.write_text("transcripts.txt", _transcripts(seed, built["cgd"], solver))
    return found


def _prepare_stages(seed: Seed) -> tuple[dict[str, Stage], dict[str, Any]]:
    """The stages that arms start from, by name; `quality_NAME`, how well their verifiers judge."""
    built, found = {}, {}
    for name, recipe in stages.STAGES.items():
        if not seed.has(name):
            continue

        def prepared(recipe: stages.Recipe = recipe) -> dict[str, Any]:
            stage, quality = stages.prepare(
                seed.config, recipe, seed.base, seed.number, seed.problems.taken
            )
            parts = {"gold": stage.gold, "base": stage.base, "params": stage.params}
            return parts | {"verifier": stage.verifier._asdict(), "quality": quality}

        kept = seed.once(name, prepared)
        built[name] = Stage(
            kept["gold"],
            kept["base"],
            kept["params"],
            Verifier(**kept["verifier"]),
            recipe.cgd,
            recipe.toy,
        )
        found[f"quality_{name}"] = kept["quality"]
    return built, found


def _iterate_arms(seed: Seed, built: dict[str, Stage]) -> dict[str, dict[str, Any]]:
    """Rounds of every arm that this seed runs, by its name."""
    config, number, found = seed.config, seed.number, {}
    for name, (stage_name, accept) in arms.ARMS.items():
        if not seed.has(name, stage_name):
            continue
        stage = built[stage_name]
        test = plans_at(seed.problems.test[stage.toy], config.epsilon)
        found[name] = seed.once(
            name,
            functools.partial(
                arms.iterate, config, stage, accept(config), test, number, seed.problems.taken
            ),
        )
        for step, (final, reward) in enumerate(
            zip(found[name]["final"], found[name]["reward"], strict=True)
        ):
            seed.run.log(
                step, **{f"{name}/final_{number}": final, f"{name}/reward_{number}": reward}
            )
    return found


def _measure_solver(seed: Seed, stage: Stage, solver: dict) -> dict[str, Any]:
    """Plans, granularity and ways to spend samples; `solver` has gone through the rounds."""
    config, problems = seed.config, seed.problems
    key = stages.sampling_key(config, 2, seed.number)
    yes = [d.answer == "yes" for d in problems.test[COMPARE_TOY]]
    return {
        "plans": seed.once(
            "plans",
            lambda: measures.decompositions(config, stage.params, stage.verifier, problems.planned),
        ),
        "sweep": seed.once(
            "granularity_sweep",
            lambda: measures.granularity_sweep(
                config, solver, stage.verifier, problems.planned, key
            ),
        ),
        "votes": seed.once(
            "votes",
            lambda: measures.votes(
                config, solver, stage.params, stage.verifier, problems.test[TOY], key
            ),
        ),
        "common_answer": max(np.mean(yes), 1 - np.mean(yes)),
    }


def _tune_otherwise(seed: Seed, stage: Stage) -> dict[str, Any]:
    """Two networks in place of one, and problems told in several orders."""
    config, number, taken = seed.config, seed.number, seed.problems.taken
    halves = seed.run.once("half_bases", lambda: networks.train_bases(config, set(taken)))

    def rephrased() -> dict[str, float]:
        tuned = stages.fine_tune(config, seed.base, number, taken, rephrase=True)
        return measures.tuned_accuracy(config, tuned._replace(verifier=stage.verifier), seed.plans)

    return {
        "two_networks": seed.once(
            "two_networks",
            lambda: networks.measure(config, halves, number, seed.problems.planned, taken),
        ),
        "rephrased": seed.once("rephrased", rephrased),
    }


def _stop_early(seed: Seed, stage: Stage, solver: dict, search: Search) -> dict[str, Any]:
    """Best-of-N that drops rows part-way."""
    config = seed.config
    planned = seed.problems.planned[: config.search_problems]
    return seed.once(
        "speculation",
        lambda: speculation.measure(
            config,
            search,
            solver,
            stage.verifier,
            plans_at(planned, config.epsilon),
            stages.sampling_key(config, 2, seed.number),
        ),
    )


def _first_seed_alone(seed: Seed, built: dict[str, Stage], strong_solver: dict) -> dict[str, Any]:
    """GRPO's rounds, votes on the strong base, and whether gold solutions are read."""
    config, run, stage, strong = seed.config, seed.run, built["cgd"], built["strong"]
    return {
        "grpo": run.once(
            "grpo",
            lambda: arms.rounds(
                config,
                stage,
                policy_gradient.by_group(config, stage),
                seed.plans,
                seed.number,
                seed.problems.taken,
            ),
        ),
        "strong_votes": run.once(
            "strong_votes",
            lambda: measures.votes(
                config,
                strong_solver,
                strong.params,
                strong.verifier,
                seed.problems.test[TOY],
                stages.sampling_key(config, 2, seed.number),
            ),
        ),
        "provenance": run.once(
            "poisoned_gold",
            lambda: measures.provenance(
                config, stage, arms.by_subquestion(config), seed.plans[: config.round_problems]
            ),
        ),
    }


def _transcripts(seed: Seed, stage: Stage, solver: dict, count: int = 12) -> str:
    """Problems with the greedy steps of the solver before and after iteration."""
    lines, plans = [], seed.plans
    for name, params in (("fine-tuned", stage.params), ("after iteration", solver)):
        roll = arms.greedy_traces(seed.config, stage, params, plans)
        for p, plan in enumerate(plans[:count]):
            lines += [f"[{name}] {seed.problems.test[TOY][p].problem}"]
            for t, question in enumerate(plan.questions):
                answer = describe(roll.tokens[p, t, 0].tolist())
                mark = "right" if roll.answer[p, t, 0] == plan.answers[t] else "WRONG"
                lines.append(
                    f"    {describe(question):<14} {answer:<44} {mark}, "
                    f"verifier {roll.reward[p, t, 0]:.2f}"
                )
            lines.append("")
    return "\n".join(lines)
