"""Generated problems for each stage, none twice, and their documents."""

import math

import numpy as np

from jaxlab.lm import Document
from jaxlab.prm import compact
from jaxlab.prm.compact import CLAUSE, EPSILONS, PAD, Plan
from jaxlab.prm.decomposition import Decomposition
from jaxlab.prm.studies.config import EPSILON_MIX
from jaxlab.prm.toy import ToyConfig, toy_problem

PROMPT_TOKENS = 48


def draw_problems(
    rng: np.random.Generator, toy: ToyConfig, count: int, taken: set[str]
) -> list[Decomposition]:
    """`count` problems whose texts are not in `taken`, to which they are added."""
    problems = []
    while len(problems) < count:
        problem = toy_problem(rng, toy)
        if problem.problem not in taken:
            taken.add(problem.problem)
            problems.append(problem)
    return problems


def plans_at(problems: list[Decomposition], epsilon: float) -> list[Plan]:
    """The problems' plans at one granularity, pronouns in place."""
    return [compact.encode(full, compact.coarsen(full, epsilon)) for full in problems]


def rephrased(rng: np.random.Generator, full: Decomposition) -> Decomposition:
    """The same problem, its facts told in another order."""
    *facts, question = full.problem.split(". ")
    order = rng.permutation(len(facts))
    return full._replace(problem=". ".join([*(facts[i] for i in order), question]))


def answer_documents(
    rng: np.random.Generator,
    problems: list[Decomposition],
    copies: int,
    *,
    cgd: bool,
    rephrase: bool = False,
) -> list[Document]:
    """Gold answers of each problem at `copies` granularities of the mix, or each copy rephrased."""
    documents = []
    for problem in problems:
        for epsilon in rng.choice(EPSILONS, size=copies, p=EPSILON_MIX):
            full = rephrased(rng, problem) if rephrase else problem
            plan = compact.encode(full, compact.coarsen(full, epsilon))
            documents.append(compact.answer_document(plan, cgd=cgd))
    return documents


def base_documents(
    rng: np.random.Generator, problems: list[Decomposition]
) -> tuple[list[Document], list[Document]]:
    """(answers without their computed numbers, plans) of problems at the mix of granularities.

    Half of the answers show the next subquestion and half of the problems have pronouns.
    """
    answers, plans = [], []
    for full in problems:
        epsilon = rng.choice(EPSILONS, p=EPSILON_MIX)
        ambiguous, cgd = rng.random(2) < 0.5
        plan = compact.encode(full, compact.coarsen(full, epsilon), ambiguous=bool(ambiguous))
        answers.append(compact.answer_document(plan, cgd=bool(cgd), hide_results=True))
        plans.append(_plan_document(full, rng.choice(EPSILONS)))
    return answers, plans


def plan_documents(
    rng: np.random.Generator, problems: list[Decomposition], copies: int, *, rephrase: bool = False
) -> list[Document]:
    """Gold plans of each problem at `copies` granularities, all alike likely."""
    return [
        _plan_document(rephrased(rng, full) if rephrase else full, epsilon)
        for full in problems
        for epsilon in rng.choice(EPSILONS, size=copies)
    ]


def _plan_document(full: Decomposition, epsilon: float) -> Document:
    plan = compact.encode(full, compact.coarsen(full, epsilon))
    return compact.plan_document(plan, compact.facts_by_id(full), epsilon)


def most_steps(toy: ToyConfig, epsilon: float) -> tuple[int, int]:
    """(most subquestions of a plan, most tokens of a sub-solution) at a granularity."""
    steps, tokens = 1, 1
    for ops in range(toy.min_ops, toy.max_ops + 1):
        for siblings in range(ops):
            total = ops + 1 + siblings
            kept = max(1, math.floor(epsilon * total + 0.5))
            merged = max(0, total - kept - siblings)
            steps = max(steps, kept)
            tokens = max(tokens, CLAUSE * (merged + 1) + 1)
    return steps, tokens


def plan_arrays(
    plans: list[Plan], num_steps: int, cgd: bool, prompt_tokens: int = PROMPT_TOKENS
) -> dict[str, np.ndarray]:
    """`prompt` [P, T] left-padded, `forced` [P, S, F], `answers` [P, S]."""
    prompt = np.full((len(plans), prompt_tokens), PAD, np.int32)
    forced = np.full((len(plans), num_steps, compact.FORCED), PAD, np.int32)
    for p, plan in enumerate(plans):
        prompt[p, prompt_tokens - len(plan.problem) :] = plan.problem
        forced[p, : len(plan.questions)] = compact.forced_tokens(plan, cgd)
    return {"prompt": prompt, "forced": forced, "answers": known_answers(plans, num_steps)}


def known_answers(plans: list[Plan], num_steps: int) -> np.ndarray:
    """[P, S] the numbers that end the sub-solutions, PAD where there is no step."""
    answers = np.full((len(plans), num_steps), PAD, np.int32)
    for p, plan in enumerate(plans):
        answers[p, : len(plan.answers)] = plan.answers
    return answers
