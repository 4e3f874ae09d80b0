"""The arms that are compared: rounds of expert iteration under one kind of acceptance each."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxlab import lm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import Plan
from jaxlab.prm.sequential import Rollout
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.config import ROW_TOKENS, AutoPRMConfig
from jaxlab.prm.studies.problems import draw_problems, plans_at
from jaxlab.prm.studies.stages import Stage, sampling_key
from jaxlab.prm.studies.training import fit, pack


class Accepted(NamedTuple):
    """documents to train on; counts of what was drawn and taken."""

    documents: list[lm.Document]
    counts: dict[str, float]


Accept = Callable[[jax.Array, dict, Stage, list[Plan]], Accepted]
# (key, params, plans, number of the round) to new params and counts
Improve = Callable[[jax.Array, dict, list[Plan], int], tuple[dict, dict[str, float]]]


def by_subquestion(config: AutoPRMConfig, choose=sequential.first_accepted) -> Accept:
    """AutoPRM: for each subquestion the first candidate that passes, and on from it."""

    def accept(key, params, stage, plans):
        roll = rollouts.sample(
            key,
            params,
            stage.verifier,
            config.network(),
            plans,
            epsilon=config.epsilon,
            cgd=stage.cgd,
            choose=choose,
            k=config.k,
        )
        documents = []
        lengths = roll.accepted.sum(1)
        for p, plan in enumerate(plans):
            if lengths[p]:
                chosen = rollouts.chosen_solutions(roll, p, lengths[p])
                documents.append(compact.answer_document(plan, cgd=stage.cgd, solutions=chosen))
        right = rollouts.right_steps(roll, plans)
        reached = rollouts.reached_steps(roll, plans)
        drawn = (roll.tokens != compact.PAD) & reached[..., None, None]
        return _accepted(documents, drawn.sum(), right[roll.accepted], roll.accepted.sum())

    return accept


def by_final_answer(config: AutoPRMConfig) -> Accept:
    """Outcome reinforcement: k whole traces, those that end in the known answer."""

    def accept(key, params, stage, plans):
        repeated = [plan for plan in plans for _ in range(config.k)]
        roll = rollouts.sample(
            key,
            params,
            None,
            config.network(),
            repeated,
            epsilon=config.epsilon,
            cgd=stage.cgd,
        )
        right = rollouts.right_steps(roll, repeated)
        wins = rollouts.last_right(right, repeated)
        documents, seen, steps = [], set(), []
        for p in np.flatnonzero(wins):
            count = len(repeated[p].answers)
            if not roll.complete[p, :count, 0].all():
                continue
            chosen = rollouts.chosen_solutions(roll, p, count)
            document = compact.answer_document(repeated[p], cgd=stage.cgd, solutions=chosen)
            if document.ids.tobytes() not in seen:
                seen.add(document.ids.tobytes())
                documents.append(document)
                steps += right[p, :count].tolist()
        drawn = (roll.tokens != compact.PAD).sum()
        return _accepted(documents, drawn, np.array(steps), len(steps))

    return accept


def nothing(key, params, stage, plans) -> Accepted:
    """Supervised fine-tuning continued: no samples."""
    return _accepted([], 0, np.zeros(0), 0)


def _accepted(documents, drawn, right, steps) -> Accepted:
    fitting = [d for d in documents if len(d.ids) <= ROW_TOKENS]
    return Accepted(
        fitting,
        {
            "drawn_tokens": float(drawn),
            "accepted_tokens": float(sum(d.loss_mask.sum() for d in fitting)),
            "accepted_texts": float(len(fitting)),
            "accepted_steps": float(steps),
            "step_precision": float(np.mean(right)) if len(right) else float("nan"),
        },
    )


def iterate(
    config: AutoPRMConfig,
    stage: Stage,
    accept: Accept,
    test: list[Plan],
    seed: int,
    taken: set[str],
) -> dict:
    """Rounds of sampling, acceptance and training on what was accepted, as `rounds` returns them.

    The counts are those of `Accepted`.
    """

    def improve(key, params, plans, number):
        accepted = accept(key, params, stage, plans)
        pools = [(stage.gold, 0.75), (stage.base, 0.25)]
        if accepted.documents:
            pools = [(pack(accepted.documents), 0.5), (stage.gold, 0.25), (stage.base, 0.25)]
        params = fit(
            config.network(),
            params,
            pools,
            rows=config.batch_rows,
            steps=config.rl_steps,
            lr=config.rl_lr,
            seed=100 * seed + number,
        )
        return params, accepted.counts

    return rounds(config, stage, improve, test, seed, taken)


def greedy_traces(config: AutoPRMConfig, stage: Stage, params: dict, plans: list[Plan]) -> Rollout:
    """The traces of `params` without chance, judged by the stage's verifier."""
    return rollouts.sample(
        jax.random.key(0),
        params,
        stage.verifier,
        config.network(),
        plans,
        epsilon=config.epsilon,
        cgd=stage.cgd,
        sampling=rollouts.GREEDY,
    )


def rounds(
    config: AutoPRMConfig,
    stage: Stage,
    improve: Improve,
    test: list[Plan],
    seed: int,
    taken: set[str],
) -> dict:
    """Rounds of reinforcement, each on new problems.

    Returns:
      `params` of the last round; `final`, `step` [rounds + 1] accuracies of greedy answers;
      `reward` [rounds + 1], the mean the verifier gives them (0 without one); each count of
      `improve` by round.
    """
    params = stage.params
    rng = np.random.default_rng((config.seed, 4, seed))
    curves = {"final": [], "step": [], "reward": []}
    for number in range(config.rounds + 1):
        greedy = greedy_traces(config, stage, params, test)
        final, step = rollouts.score(greedy, test)
        exists = rollouts.existing_steps(greedy, test)
        rewards = float(greedy.reward[..., 0][exists].mean())
        for name, value in (("final", final), ("step", step), ("reward", rewards)):
            curves[name].append(value)
        if number == config.rounds:
            break
        problems = draw_problems(rng, stage.toy, config.round_problems, set(taken))
        plans = plans_at(problems, config.epsilon)
        key = sampling_key(config, 1, seed, number)
        params, counts = improve(key, params, plans, number)
        for name, value in counts.items():
            curves.setdefault(name, []).append(value)
    return {"params": params} | {name: np.array(values) for name, values in curves.items()}


# Name of an arm: the stage that it starts from, and how it accepts.
ARMS: dict[str, tuple[str, Callable]] = {
    "autoprm": ("cgd", by_subquestion),
    "orm": ("cgd", by_final_answer),
    "sft_continued": ("cgd", lambda config: nothing),
    "autoprm_no_cgd": ("no_cgd", by_subquestion),
    "prm_few_labels": ("few", by_subquestion),
    "rollout_labels": ("rollout", by_subquestion),
    "oracle": ("cgd", functools.partial(by_subquestion, choose=sequential.first_right)),
    "compare_autoprm": ("compare", by_subquestion),
    "compare_orm": ("compare", by_final_answer),
    "branch_autoprm": ("branch", by_subquestion),
    "branch_no_cgd": ("branch_without", by_subquestion),
    "strong_autoprm": ("strong", by_subquestion),
}
# What is only reported runs on the first seed alone.
ONE_SEED = ("branch", "branch_without", "few", "rollout", "strong", "oracle")
