"""The arms that are compared: rounds of expert iteration under one kind of acceptance each."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import rankdata

from jaxlab import lm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import Plan
from jaxlab.prm.step_labels import first_error_f1
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.config import BASE_TOY, ROW_TOKENS, TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import (
    answer_documents,
    base_documents,
    draw_problems,
    known_answers,
    plan_documents,
    plans_at,
)
from jaxlab.prm.studies.training import fit, fit_verifier, pack
from jaxlab.prm.verifier import Verifier


class Stage(NamedTuple):
    """What all arms of a seed start from: rows of gold and of stage 1, the solver, its judge."""

    gold: dict
    base: dict
    params: dict
    verifier: Verifier | Any
    cgd: bool


class Accepted(NamedTuple):
    """documents to train on; counts of what was drawn and taken."""

    documents: list[lm.Document]
    counts: dict[str, float]


Accept = Callable[[jax.Array, dict, Stage, list[Plan]], Accepted]


def train_base(config: AutoPRMConfig, taken: set[str]) -> dict:
    """The network that reads well and calculates badly, which all seeds share."""
    cfg, rng = config.network(), np.random.default_rng((config.seed, 1))
    params = lm.init_params(jax.random.key(config.seed), cfg)
    for number in range(2):
        problems = draw_problems(rng, BASE_TOY, config.base_problems, taken)
        answers, plans = base_documents(rng, problems)
        params = fit(
            cfg,
            params,
            [(pack(answers), 0.75), (pack(plans), 0.25)],
            rows=config.batch_rows,
            steps=config.base_steps,
            lr=config.base_lr,
            seed=number,
        )
    held_out = draw_problems(rng, TOY, 128, taken)
    return {"params": params, "look_up": look_up_accuracy(cfg, params, held_out)}


def look_up_accuracy(cfg: lm.LMConfig, params: dict, problems: list) -> float:
    """Share of the tokens of sub-solutions that need no arithmetic, given those before."""
    answers, _ = base_documents(np.random.default_rng(0), problems)
    rows = pack(answers)
    logits = lm.forward(params, cfg, rows["tokens"], segment_ids=rows["segment_ids"]).logits
    hit = np.asarray(logits.argmax(-1))[:, :-1] == rows["tokens"][:, 1:]
    return float(hit[rows["loss_mask"][:, 1:]].mean())


def fine_tune(config: AutoPRMConfig, base: dict, seed: int, taken: set[str], *, cgd: bool) -> Stage:
    """Supervised fine-tuning on few gold problems; no verifier yet."""
    cfg, rng = config.network(), np.random.default_rng((config.seed, 2, seed))
    problems = draw_problems(rng, TOY, config.sft_problems, set(taken))
    answers = pack(answer_documents(rng, problems, 5, cgd=cgd))
    plans = pack(plan_documents(rng, problems, 5))
    shared, _ = base_documents(rng, draw_problems(rng, TOY, config.sft_problems, set(taken)))
    params = fit(
        cfg,
        base,
        [(answers, 0.75), (plans, 0.25)],
        rows=config.batch_rows,
        steps=config.sft_steps,
        lr=config.sft_lr,
        seed=seed,
    )
    return Stage(answers, pack(shared), params, None, cgd)


def judge(
    config: AutoPRMConfig,
    stage: Stage,
    seed: int,
    taken: set[str],
    *,
    share: float = 1.0,
    labels: str = "subanswer",
) -> tuple[Verifier, dict[str, float]]:
    """A verifier from automatic labels, and how well it judges.

    share: of the problems that have labels. labels: "subanswer", which also trains on their gold
    steps, or "rollout", which reads their final answers alone.
    """
    cfg, rng = config.network(), np.random.default_rng((config.seed, 3, seed))
    count = max(2, round(share * config.verifier_problems))
    taken = set(taken)
    plans = plans_at(draw_problems(rng, TOY, count, taken), config.epsilon)
    key = sampling_key(config, 0, seed)
    drawn = rollouts.sample(
        key,
        stage.params,
        None,
        cfg,
        plans,
        epsilon=config.epsilon,
        cgd=stage.cgd,
        choose=sequential.first_right if labels == "subanswer" else sequential.only,
        k=config.verifier_candidates,
    )
    if labels == "subanswer":
        samples = rollouts.judged_candidates(drawn, plans, cgd=stage.cgd)
        gold = [rollouts.gold_judged(plan, cgd=stage.cgd) for plan in plans]
    else:
        samples = rollouts.candidates_by_rollout(
            jax.random.fold_in(key, 2),
            stage.params,
            cfg,
            drawn,
            plans,
            epsilon=config.epsilon,
            cgd=stage.cgd,
            count=config.label_rollouts,
        )
        gold = []
    verifier = fit_verifier(
        cfg,
        stage.params,
        samples,
        gold,
        rows=config.batch_rows,
        steps=config.verifier_steps,
        lr=config.verifier_lr,
        seed=seed,
    )
    fresh = draw_problems(rng, TOY, config.plan_problems, taken)
    return verifier, judge_quality(config, stage, verifier, plans_at(fresh, config.epsilon), key)


def judge_quality(config, stage: Stage, verifier: Verifier, plans, key) -> dict[str, float]:
    """How the verifier judges new problems.

    `auc`, `precision` (of those it accepts): candidates that follow right steps, as in iteration.
    `f1`: the first error of whole traces (ProcessBench).
    """
    draw = functools.partial(
        rollouts.sample,
        params=stage.params,
        verifier=verifier,
        cfg=config.network(),
        plans=plans,
        epsilon=config.epsilon,
        cgd=stage.cgd,
    )
    key_candidates, key_traces = jax.random.split(jax.random.fold_in(key, 1))
    drawn = draw(key_candidates, choose=sequential.first_right, k=config.verifier_candidates)
    exists, reached = rollouts.existing_steps(drawn, plans), rollouts.reached_steps(drawn, plans)
    known = known_answers(plans, exists.shape[1])
    labels = (drawn.answer == known[..., None])[reached].ravel()
    scores = drawn.reward[reached].ravel()
    accepted = scores >= 0.5

    traces = draw(key_traces)
    right = rollouts.right_steps(traces, plans)
    found = _first(exists & (traces.reward[..., 0] < 0.5))
    f1, _, _ = first_error_f1(found, _first(exists & ~right), exists.shape[1])
    return {
        "auc": area_under_curve(scores, labels),
        "precision": float(labels[accepted].mean()) if accepted.any() else 0.0,
        "f1": float(f1),
    }


def _first(marked: np.ndarray) -> np.ndarray:
    """[P] index of the first mark of each row [P, S]; S if there is none."""
    return np.where(marked.any(1), marked.argmax(1), marked.shape[1])


def area_under_curve(scores: Any, labels: Any) -> float:
    """Chance that a right step scores above a wrong one; 1/2 for ties and with one class only."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


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


def sampling_key(config: AutoPRMConfig, *path: int) -> jax.Array:
    """A key for each use, seed and round."""
    return functools.reduce(jax.random.fold_in, path, jax.random.key(config.seed))


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
    """Rounds of sampling, acceptance and training.

    Returns:
      `params` of the last round; `final`, `step` [rounds + 1] accuracies of greedy answers;
      `reward` [rounds + 1], the mean the verifier gives them (0 without one); each count of
      `Accepted` by round.
    """
    cfg, params = config.network(), stage.params
    rng = np.random.default_rng((config.seed, 4, seed))
    curves = {"final": [], "step": [], "reward": []}
    for number in range(config.rounds + 1):
        greedy = rollouts.sample(
            jax.random.key(0),
            params,
            stage.verifier,
            cfg,
            test,
            epsilon=config.epsilon,
            cgd=stage.cgd,
            sampling=rollouts.GREEDY,
        )
        final, step = rollouts.score(greedy, test)
        exists = rollouts.existing_steps(greedy, test)
        rewards = float(greedy.reward[..., 0][exists].mean())
        for name, value in (("final", final), ("step", step), ("reward", rewards)):
            curves[name].append(value)
        if number == config.rounds:
            break
        plans = plans_at(draw_problems(rng, TOY, config.round_problems, set(taken)), config.epsilon)
        key = sampling_key(config, 1, seed, number)
        taken_in = accept(key, params, stage, plans)
        for name, value in taken_in.counts.items():
            curves.setdefault(name, []).append(value)
        pools = [(stage.gold, 0.75), (stage.base, 0.25)]
        if taken_in.documents:
            pools = [(pack(taken_in.documents), 0.5), (stage.gold, 0.25), (stage.base, 0.25)]
        params = fit(
            cfg,
            params,
            pools,
            rows=config.batch_rows,
            steps=config.rl_steps,
            lr=config.rl_lr,
            seed=100 * seed + number,
        )
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
}
# Arms that are only reported: the first seed alone, as are the stages that they need.
ONE_SEED = ("prm_few_labels", "rollout_labels", "oracle", "few", "rollout")
