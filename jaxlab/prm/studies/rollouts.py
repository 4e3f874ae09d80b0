"""Sampling for many problems in equal chunks, and what the samples are turned into."""

import functools
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import FORCED, SEP, Plan
from jaxlab.prm.packing import Judged
from jaxlab.prm.sequential import Rollout
from jaxlab.prm.step_labels import mc_step_labels
from jaxlab.prm.studies.config import ROW_TOKENS, TOY
from jaxlab.prm.studies.problems import PROMPT_TOKENS, known_answers, most_steps, plan_arrays
from jaxlab.prm.verifier import Verifier

ROWS = 64  # of a chunk, candidates counted: larger ones leave the processor's cache
SAMPLED, GREEDY = lm.SamplingConfig(), lm.SamplingConfig(temperature=0)


@functools.partial(jax.jit, static_argnames=("cfg", "k", "max_new_tokens", "sampling"))
def _sample(row_keys, params, verifier, cfg, prompt, forced, answers, choice, **static):
    """`sample_steps` with the choice as an argument, so that one program serves all."""

    def choose(*candidates):
        return jax.lax.switch(choice, sequential.CHOICES, *candidates)

    return sequential.sample_steps(
        row_keys, params, verifier, cfg, prompt, forced, answers, choose=choose, **static
    )


class Scores(NamedTuple):
    """final, step: shares of problems and of steps with the right number."""

    final: float
    step: float


def sample(
    key: jax.Array,
    params: dict,
    verifier: Verifier | None,
    cfg: lm.LMConfig,
    plans: list[Plan],
    *,
    epsilon: float,
    cgd: bool = True,
    choose=sequential.only,
    k: int = 1,
    sampling: lm.SamplingConfig = SAMPLED,
    prompt_tokens: int = PROMPT_TOKENS,
) -> Rollout:
    """`sample_steps` for all plans, which are at granularity `epsilon`; arrays of NumPy.

    `choose` is one of `sequential.CHOICES`. Problem i draws from `fold_in(key, i)`, whatever the
    chunks are. A chunk takes as long as its longest plan, so plans of equal length share one; one
    that is not full repeats problems.
    """
    num_steps, max_new_tokens = most_steps(TOY, epsilon)
    num_steps = max(num_steps, *(len(plan.questions) for plan in plans))
    arrays = plan_arrays(plans, num_steps, cgd, prompt_tokens)
    size = max(1, ROWS // k)
    padded = -(-len(plans) // size) * size
    order = np.argsort([len(plan.questions) for plan in plans], kind="stable")
    chosen = order[np.arange(padded) % len(plans)]
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.asarray(chosen))
    chunks = []
    for start in range(0, padded, size):
        part = chosen[start : start + size]
        rollout = _sample(
            keys[start : start + size],
            params,
            verifier,
            cfg,
            *(arrays[name][part] for name in ("prompt", "forced", "answers")),
            sequential.CHOICES.index(choose),
            k=k,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        )
        chunks.append(jax.device_get(rollout))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[np.argsort(order)], *chunks)


def chosen_answers(rollout: Rollout) -> np.ndarray:
    """[P, S] the numbers of the chosen sub-solutions."""
    answer, index = np.asarray(rollout.answer), np.asarray(rollout.index)
    return np.take_along_axis(answer, index[..., None], -1)[..., 0]


def right_steps(rollout: Rollout, plans: list[Plan]) -> np.ndarray:
    """[P, S] whether the chosen sub-solution of each step has the plan's number."""
    known = known_answers(plans, rollout.index.shape[1])
    return existing_steps(rollout, plans) & (chosen_answers(rollout) == known)


def existing_steps(rollout: Rollout, plans: list[Plan]) -> np.ndarray:
    """[P, S] which steps the plans have."""
    counts = np.array([len(plan.questions) for plan in plans])
    return np.arange(rollout.index.shape[1]) < counts[:, None]


def reached_steps(rollout: Rollout, plans: list[Plan]) -> np.ndarray:
    """[P, S] which steps follow accepted ones."""
    before = np.pad(rollout.accepted[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return before & existing_steps(rollout, plans)


def last_right(right: np.ndarray, plans: list[Plan]) -> np.ndarray:
    """[P] whether the last step is right."""
    return right[np.arange(len(plans)), [len(plan.answers) - 1 for plan in plans]]


def final_answers(rollout: Rollout, plans: list[Plan]) -> np.ndarray:
    """[P] the numbers of the last steps."""
    last = [len(plan.questions) - 1 for plan in plans]
    return chosen_answers(rollout)[np.arange(len(plans)), last]


def score(rollout: Rollout, plans: list[Plan]) -> Scores:
    """Accuracy of the last answers and of all."""
    right = right_steps(rollout, plans)
    total = sum(len(plan.answers) for plan in plans)
    return Scores(float(last_right(right, plans).mean()), float(right.sum() / total))


def chosen_solutions(rollout: Rollout, problem, num_steps: SupportsIndex) -> list[list[int]]:
    """The ids of the first chosen sub-solutions of a problem, each up to its SEP."""
    solutions = []
    for t in range(num_steps):
        ids = rollout.tokens[problem, t, rollout.index[problem, t]].tolist()
        solutions.append(ids[: ids.index(SEP) + 1])
    return solutions


def judged_document(
    plan: Plan, solutions: list[list[int]], labels: list[float], *, cgd: bool, judged: slice
) -> Judged:
    """The first steps of a plan with their solutions; `labels` are of those in `judged`."""
    document = compact.answer_document(plan, cgd=cgd, solutions=solutions)
    starts, ends, position = [], [], len(plan.problem)
    for solution in solutions:
        starts.append(position + FORCED)
        position += FORCED + len(solution)
        ends.append(position - 1)
    return Judged(document, starts[judged], ends[judged], labels, is_gold=False)


def gold_judged(plan: Plan, *, cgd: bool) -> Judged:
    """The plan's own solutions, all right, which also train the language model."""
    ones = [1.0] * len(plan.solutions)
    return judged_document(plan, plan.solutions, ones, cgd=cgd, judged=slice(None))._replace(
        is_gold=True
    )


def judged_candidates(rollout: Rollout, plans: list[Plan], *, cgd: bool) -> list[Judged]:
    """Every complete candidate with the label whether its number is the plan's.

    For rollouts that go on from right candidates: the right ones of a problem make one document;
    each other candidate is one with the right steps before it. A problem ends with the first step
    that has no right candidate, since a right number after a wrong one is luck.
    """
    documents = []
    for p, plan in enumerate(plans):
        right_steps = int(rollout.accepted[p].sum())
        chosen = chosen_solutions(rollout, p, right_steps)
        for t in range(min(right_steps + 1, len(plan.answers))):
            for j in range(rollout.tokens.shape[2]):
                is_chosen = t < right_steps and j == rollout.index[p, t]
                if is_chosen or not rollout.complete[p, t, j]:
                    continue
                ids = rollout.tokens[p, t, j].tolist()
                solutions = [*chosen[:t], ids[: ids.index(SEP) + 1]]
                label = float(rollout.answer[p, t, j] == plan.answers[t])
                documents.append(
                    judged_document(plan, solutions, [label], cgd=cgd, judged=slice(t, t + 1))
                )
        if right_steps:
            ones = [1.0] * right_steps
            documents.append(judged_document(plan, chosen, ones, cgd=cgd, judged=slice(None)))
    return [d for d in documents if len(d.document.ids) <= ROW_TOKENS]


def plan_after(plan: Plan, solutions: list[list[int]], *, cgd: bool) -> Plan:
    """What is left of a plan when its first steps have these solutions, which join the problem."""
    ids, done = list(plan.problem), len(solutions)
    for forced, solution in zip(compact.forced_tokens(plan, cgd), solutions, strict=False):
        ids += [*forced, *solution]
    _, questions, solutions, answers, clauses = plan
    return Plan(ids, questions[done:], solutions[done:], answers[done:], clauses[done:])


def candidates_by_rollout(
    key: jax.Array,
    params: dict,
    cfg: lm.LMConfig,
    drawn: Rollout,
    plans: list[Plan],
    *,
    epsilon: float,
    cgd: bool,
    count: int,
) -> list[Judged]:
    """Every complete candidate with the share of `count` rollouts from it that end in the answer.

    Of a plan's numbers only the last is read (Math-Shepherd's labels); the candidates follow the
    chosen ones, up to the first incomplete one. A last step is its own rollout.
    """
    documents, pending = [], []
    for p, plan in enumerate(plans):
        complete, index = np.asarray(drawn.complete[p]), np.asarray(drawn.index[p])
        chosen_ends = np.take_along_axis(complete, index[:, None], 1)[:, 0]
        for t in range(len(plan.questions)):
            before = chosen_solutions(drawn, p, t)
            for j in np.flatnonzero(drawn.complete[p, t]):
                ids = drawn.tokens[p, t, j].tolist()
                solutions = [*before, ids[: ids.index(SEP) + 1]]
                label = float(drawn.answer[p, t, j] == plan.answers[-1])
                documents.append(
                    judged_document(plan, solutions, [label], cgd=cgd, judged=slice(t, t + 1))
                )
                if t + 1 < len(plan.questions):
                    pending.append((len(documents) - 1, plan_after(plan, solutions, cgd=cgd)))
            if not chosen_ends[t]:
                break
    rest = [(i, plan) for i, plan in pending if len(plan.problem) <= ROW_TOKENS]
    labels = np.zeros(len(rest))
    if rest:
        repeated = [plan for _, plan in rest for _ in range(count)]
        ended = sample(
            key, params, None, cfg, repeated, epsilon=epsilon, cgd=cgd, prompt_tokens=ROW_TOKENS
        )
        known = np.array([plan.answers[-1] for plan in repeated])
        wins = (final_answers(ended, repeated) == known).reshape(-1, count).sum(1)
        labels = np.asarray(mc_step_labels(wins, np.full(len(rest), count))[0])
    for (i, _), label in zip(rest, labels, strict=True):
        documents[i] = documents[i]._replace(labels=[float(label)])
    dropped = {i for i, _ in pending} - {i for i, _ in rest}
    return [
        d for i, d in enumerate(documents) if i not in dropped and len(d.document.ids) <= ROW_TOKENS
    ]
