"""What is measured on trained solvers: plans, granularity, votes and search, provenance."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from jaxlab import lm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import EPSILONS, NONE, PAD, SEP, Plan
from jaxlab.prm.decomposition import Decomposition
from jaxlab.prm.process_reward import aggregate_steps
from jaxlab.prm.selection import best_of_n, majority_vote
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.arms import Accept, greedy_traces
from jaxlab.prm.studies.config import AutoPRMConfig
from jaxlab.prm.studies.problems import plans_at
from jaxlab.prm.studies.stages import Stage
from jaxlab.prm.verifier import Verifier

_PLAN_TOKENS = 5 * 11 + 1
_BUDGET = 12


def decompositions(
    config: AutoPRMConfig, params: dict, verifier: Verifier, problems: list[Decomposition]
) -> dict:
    """The network's own plans at five granularities, against the gold ones.

    Returns:
      `asked`, `realised` [5, P]: granularities; `ends_right` [5, P]: whether the last subquestion
      is the problem's; `all_right` [5]: share of plans whose persons are the gold plan's;
      `own`, `gold`: final accuracy at `config.epsilon` with the network's plan and the gold one;
      `all_right_here`: `all_right` there.
    """
    cfg = config.network()
    result = {name: [] for name in ("asked", "realised", "ends_right", "all_right")}
    own = gold = 0.0
    for epsilon in EPSILONS:
        plans = plans_at(problems, epsilon)
        parsed = own_plans(cfg, params, plans, epsilon)
        full = np.array([len(problem.steps) for problem in problems])
        result["asked"].append(np.full(len(plans), epsilon))
        result["realised"].append(np.array([len(p) for p in parsed]) / full)
        targets = [[fact[0] for fact in facts] for facts in parsed]
        ends = [t[-1:] == [plan.problem[-1]] for t, plan in zip(targets, plans, strict=True)]
        result["ends_right"].append(np.array(ends))
        result["all_right"].append(float(np.mean(same_persons(parsed, plans))))
        if epsilon == config.epsilon:
            own, gold = end_to_end(cfg, params, verifier, plans, parsed, epsilon)
    here = result["all_right"][EPSILONS.index(config.epsilon)]
    return {name: np.array(values) for name, values in result.items()} | {
        "own": own,
        "gold": gold,
        "all_right_here": here,
    }


def own_plans(cfg, params, plans: list[Plan], epsilon: float) -> list[list[list[int]]]:
    """What the network makes of each problem, greedily: facts as `parse_plan` reads them."""
    prompts = [[*plan.problem, compact.epsilon_id(epsilon), compact.QD] for plan in plans]
    return [parse_plan(row) for row in _generate(cfg, params, prompts)]


def same_persons(parsed: list[list[list[int]]], plans: list[Plan]) -> list[bool]:
    """Whether each plan asks for the persons of the gold one, in order."""
    return [
        [fact[0] for fact in facts] == compact.plan_targets(plan)
        for facts, plan in zip(parsed, plans, strict=True)
    ]


def parse_plan(ids: list[int]) -> list[list[int]]:
    """The facts `T op b S` of a plan, first subquestion first; what is malformed ends it."""
    facts = []
    for start in range(0, len(ids) - 4, 5):
        number, *fact = ids[start : start + 5]
        if SEP in ids[start : start + 5] or not compact.is_number(np.array(number)):
            break
        facts.append(fact)
    return facts[::-1]


def _generate(cfg, params, prompts: list[list[int]]) -> list[list[int]]:
    width = max(map(len, prompts))
    tokens = np.full((len(prompts), width), PAD, np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
    result = lm.generate(
        jax.random.key(0),
        params,
        cfg,
        tokens,
        attention_mask=tokens != PAD,
        max_new_tokens=_PLAN_TOKENS,
        sampling=rollouts.GREEDY,
        eos_ids=(SEP,),
        pad_id=PAD,
    )
    return [row[:n].tolist() for row, n in zip(*map(np.asarray, result[:2]), strict=True)]


def end_to_end(cfg, params, verifier, plans, parsed, epsilon) -> tuple[float, float]:
    """Final accuracy with the network's own plans and with the gold ones."""
    own = [_own_plan(plan, facts) for plan, facts in zip(plans, parsed, strict=True)]
    scores = []
    for questions in (own, plans):
        roll = rollouts.sample(
            jax.random.key(0),
            params,
            verifier,
            cfg,
            questions,
            epsilon=epsilon,
            sampling=rollouts.GREEDY,
        )
        found = rollouts.final_answers(roll, questions)
        scores.append(float(np.mean(found == [plan.answers[-1] for plan in plans])))
    return scores[0], scores[1]


def _own_plan(plan: Plan, facts: list[list[int]]) -> Plan:
    """The plan with the network's questions; one question, the problem's, if it made none."""
    facts = facts[: len(compact.NAMES)] or [[plan.problem[-1], NONE, NONE, NONE]]
    questions = []
    for number, (target, _, _, source) in enumerate(facts):
        follows = number + 1 < len(facts) and facts[number + 1][3] == target
        questions.append((compact.PRONOUN if follows else target, source))
    blank = [PAD] * len(questions)
    return Plan(plan.problem, questions, [[]] * len(questions), blank, blank)


def tuned_accuracy(config: AutoPRMConfig, stage: Stage, plans: list[Plan]) -> dict[str, float]:
    """`final` and `step` accuracy of a fine-tuned network, greedy."""
    roll = greedy_traces(config, stage, stage.params, plans)
    return rollouts.score(roll, plans)._asdict()


def granularity_sweep(
    config: AutoPRMConfig,
    params: dict,
    verifier: Verifier,
    problems: list[Decomposition],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """Final accuracy at each `epsilon`: `greedy`, and `budget` with about 12 samples a problem.

    `spent` is how many there are on average: every step of a plan is sampled equally often.
    """
    cfg = config.network()
    greedy, budget, spent = [], [], []
    for epsilon in config.sweep:
        plans = plans_at(problems, epsilon)
        draw = functools.partial(
            rollouts.sample, key, params, cfg=cfg, plans=plans, epsilon=epsilon
        )
        greedy.append(rollouts.score(draw(verifier, sampling=rollouts.GREEDY), plans).final)
        steps = np.mean([len(plan.questions) for plan in plans])
        k = max(1, round(_BUDGET / steps))
        spent.append(k * steps)
        chosen = draw(verifier, choose=sequential.most_rewarded, k=k)
        budget.append(rollouts.score(chosen, plans).final)
    return {
        "epsilon": np.array(config.sweep),
        "greedy": np.array(greedy),
        "budget": np.array(budget),
        "spent": np.array(spent),
    }


def votes(
    config: AutoPRMConfig,
    solver: dict,
    plain: dict,
    verifier: Verifier,
    problems: list[Decomposition],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """Ways to spend k samples, [P] whether each problem's answer is right (`sampled`: the share).

    `sampled`, `passed` (any of k), `majority`, `best_min`, `best_prod` (the verifier's best of k),
    `weighted` (its vote), `reranked` (k for each subquestion) with `solver` at config.epsilon;
    `one_step`: majority of k answers of `plain` at granularity 0. `ops`: links of each problem.
    """
    cfg, k = config.network(), config.k
    plans = plans_at(problems, config.epsilon)
    gold = np.array([plan.answers[-1] for plan in plans])

    def traces(params, plans, epsilon, judge):
        repeated = [plan for plan in plans for _ in range(k)]
        roll = rollouts.sample(key, params, judge, cfg, repeated, epsilon=epsilon)
        answers = rollouts.final_answers(roll, repeated).reshape(len(plans), k)
        exists = rollouts.existing_steps(roll, repeated)
        return answers, roll.reward[..., 0], exists

    answers, rewards, exists = traces(solver, plans, config.epsilon, verifier)
    ids = np.where(answers == PAD, -1, answers)
    right = answers == gold[:, None]
    score = {
        how: np.asarray(aggregate_steps(rewards, exists, how)).reshape(-1, k)
        for how in ("min", "prod")
    }

    def best(how):
        return right[np.arange(len(plans)), np.asarray(best_of_n(score[how]))]

    reranked = rollouts.sample(
        key,
        solver,
        verifier,
        cfg,
        plans,
        epsilon=config.epsilon,
        choose=sequential.most_rewarded,
        k=k,
    )
    one_step, _, _ = traces(plain, plans_at(problems, 0.0), 0.0, None)
    one_step = np.where(one_step == PAD, -1, one_step)
    return {
        "sampled": right.mean(1),
        "passed": right.any(1),
        "majority": np.asarray(majority_vote(jnp.asarray(ids))) == gold,
        "best_min": best("min"),
        "best_prod": best("prod"),
        "weighted": np.asarray(majority_vote(jnp.asarray(ids), score["prod"])) == gold,
        "reranked": rollouts.final_answers(reranked, plans) == gold,
        "one_step": np.asarray(majority_vote(jnp.asarray(one_step))) == gold,
        "unparsed": float((answers == PAD).mean()),
        "ops": np.array([links(problem) for problem in problems]),
    }


def links(problem: Decomposition) -> int:
    """How many operations lead from the root to the asked person."""
    plan = compact.encode(problem, compact.coarsen(problem, 0.0))
    return plan.clauses[0] - 1


def provenance(
    config: AutoPRMConfig, stage: Stage, accept: Accept, plans: list[Plan]
) -> dict[str, Any]:
    """Whether a round accepts the `same` texts when all gold solutions and answers are wrong.

    And how many `texts` there are: none would be the same as none.
    """
    poisoned = [
        plan._replace(answers=[PAD] * len(plan.answers), solutions=[[SEP] for _ in plan.solutions])
        for plan in plans
    ]
    key = jax.random.key(config.seed)
    taken = [accept(key, stage.params, stage, source).documents for source in (plans, poisoned)]
    same = len(taken[0]) == len(taken[1]) and all(
        np.array_equal(a.ids, b.ids) for a, b in zip(*taken, strict=True)
    )
    return {"same": same, "texts": len(taken[0])}


def rank_correlation(asked: np.ndarray, realised: np.ndarray) -> float:
    """Spearman's, over all plans; 0 where all are equal."""
    if np.ptp(realised) == 0:
        return 0.0
    return float(spearmanr(asked.ravel(), realised.ravel()).statistic)
