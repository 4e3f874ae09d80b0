"""The stages before reinforcement: shared base, supervised fine-tuning, verifier."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import rankdata

from jaxlab import lm
from jaxlab.prm import sequential
from jaxlab.prm.compact import Plan, answer_document
from jaxlab.prm.decomposition import Decomposition
from jaxlab.prm.step_labels import first_error_f1
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.config import BASE_TOY, BRANCH_TOY, COMPARE_TOY, TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import (
    answer_documents,
    base_documents,
    draw_problems,
    known_answers,
    plan_documents,
    plans_at,
)
from jaxlab.prm.studies.training import fit, fit_verifier, pack
from jaxlab.prm.toy import ToyConfig
from jaxlab.prm.verifier import Verifier

# Of a batch: decompositions; the rest are answers. The base needs more of them, for a plan of all
# steps asks whether any fact at all leads back to a person, the hardest of its look-ups.
BASE_PLAN_SHARE = 0.5
PLAN_SHARE = 0.25


class Stage(NamedTuple):
    """What all arms of a seed start from: rows of gold and of stage 1, the solver, its judge."""

    gold: dict
    base: dict
    params: dict
    verifier: Verifier | Any
    cgd: bool = True
    toy: ToyConfig = TOY


class Recipe(NamedTuple):
    """How a stage differs from the main one.

    Attributes:
      toy: its problems.
      cgd: whether it sees the next subquestion.
      share: of the verifier's problems that have labels.
      labels: of the verifier's data; "" as the settings say.
      strong: whether it is tuned on the strong base's problems.
    """

    toy: ToyConfig = TOY
    cgd: bool = True
    share: float = 1.0
    labels: str = ""
    strong: bool = False


STAGES = {
    "cgd": Recipe(),
    "no_cgd": Recipe(cgd=False),
    "compare": Recipe(toy=COMPARE_TOY, share=0.5),
    "branch": Recipe(toy=BRANCH_TOY, share=0.5),
    "branch_without": Recipe(toy=BRANCH_TOY, cgd=False, share=0.5),
    "few": Recipe(share=0.1, labels="subanswer"),
    "rollout": Recipe(labels="rollout", share=0.5),
    "strong": Recipe(strong=True),
}


def train_base(config: AutoPRMConfig, taken: set[str]) -> dict:
    """The network that reads well and calculates badly, which all seeds share."""
    cfg, rng = config.network(), np.random.default_rng((config.seed, 1))
    params = lm.init_params(jax.random.key(config.seed), cfg)
    for number in range(2):
        answers, plans = base_rows(config, rng, taken)
        params = fit(
            cfg,
            params,
            [(answers, 1 - BASE_PLAN_SHARE), (plans, BASE_PLAN_SHARE)],
            rows=config.batch_rows,
            steps=config.base_steps,
            lr=config.base_lr,
            seed=number,
        )
    held_out = draw_problems(rng, TOY, 128, taken)
    look_up = look_up_accuracy(cfg, params, plans_at(held_out, config.epsilon))
    return {"params": params, "look_up": look_up}


def base_rows(
    config: AutoPRMConfig, rng: np.random.Generator, taken: set[str]
) -> tuple[dict, dict]:
    """Rows of answers and of plans for one of the base's two runs."""
    problems = draw_problems(rng, BASE_TOY, config.base_problems, taken)
    answers, plans = base_documents(rng, problems)
    return pack(answers), pack(plans)


def gold_rows(
    rng: np.random.Generator,
    problems: list[Decomposition],
    *,
    cgd: bool = True,
    rephrase: bool = False,
) -> tuple[dict, dict]:
    """Rows of gold answers and of gold plans, five granularities of each problem."""
    answers = pack(answer_documents(rng, problems, 5, cgd=cgd, rephrase=rephrase))
    return answers, pack(plan_documents(rng, problems, 5, rephrase=rephrase))


def look_up_accuracy(cfg: lm.LMConfig, params: dict, plans: list[Plan]) -> float:
    """Share of the tokens of sub-solutions that need no arithmetic, given those before.

    The next subquestion is shown: without it a pronoun does not tell whom it stands for.
    """
    rows = pack([answer_document(plan, hide_results=True) for plan in plans])
    logits = lm.forward(params, cfg, rows["tokens"], segment_ids=rows["segment_ids"]).logits
    hit = np.asarray(logits.argmax(-1))[:, :-1] == rows["tokens"][:, 1:]
    return float(hit[rows["loss_mask"][:, 1:]].mean())


def prepare(
    config: AutoPRMConfig, recipe: Recipe, base: dict, seed: int, taken: set[str]
) -> tuple[Stage, dict[str, float]]:
    """The stage of a recipe, tuned and with its verifier, and how well that judges."""
    if recipe.strong:
        config = config.strong()
    stage = fine_tune(config, base, seed, taken, cgd=recipe.cgd, toy=recipe.toy)
    labels = recipe.labels or config.labels
    verifier, quality = judge(config, stage, seed, taken, share=recipe.share, labels=labels)
    return stage._replace(verifier=verifier), quality


def fine_tune(
    config: AutoPRMConfig,
    base: dict,
    seed: int,
    taken: set[str],
    *,
    cgd: bool = True,
    toy: ToyConfig = TOY,
    rephrase: bool = False,
) -> Stage:
    """Supervised fine-tuning on few gold problems; no verifier yet.

    A network that answers comparisons does not decompose them. rephrase: each of a problem's texts
    tells its facts in another order.
    """
    cfg, rng = config.network(), np.random.default_rng((config.seed, 2, seed))
    problems = draw_problems(rng, toy, config.sft_problems, set(taken))
    if toy.compare:
        answers = pack(answer_documents(rng, problems, 5, cgd=cgd))
        pools = [(answers, 1.0)]
    else:
        answers, plans = gold_rows(rng, problems, cgd=cgd, rephrase=rephrase)
        pools = [(answers, 1 - PLAN_SHARE), (plans, PLAN_SHARE)]
    shared, _ = base_documents(rng, draw_problems(rng, TOY, config.sft_problems, set(taken)))
    params = fit(
        cfg,
        base,
        pools,
        rows=config.batch_rows,
        steps=config.sft_steps,
        lr=config.sft_lr,
        seed=seed,
    )
    return Stage(answers, pack(shared), params, None, cgd, toy)


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
    plans = plans_at(draw_problems(rng, stage.toy, count, taken), config.epsilon)
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
    fresh = draw_problems(rng, stage.toy, config.plan_problems, taken)
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


def sampling_key(config: AutoPRMConfig, *path: int) -> jax.Array:
    """A key for each use, seed and round."""
    return functools.reduce(jax.random.fold_in, path, jax.random.key(config.seed))
