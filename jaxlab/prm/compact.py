"""The generated problems in compact tokens: one for each number, name, operator and mark.

A fact is `T op b S` (T has b more, fewer or times as many as S), the root `T HAS v`. A problem is
BOS, its facts, `QM T`. A subquestion is two tokens, whom it asks for and whose number that one's
follows from; a pronoun stands for the first where the next subquestion names it. A sub-solution
is one clause `T op b S a T c` for each person that it finds (`T HAS v` for the root), then SEP.
A comparison ends its problem with `MORE T U`, its last subquestion is `T U`, opened by MORE
instead of MID, and the clause that answers it `T a U b YES` or `... NO`.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlab.lm import Document
from jaxlab.prm.decomposition import Decomposition, Step, set_granularity
from jaxlab.prm.toy import NAMES

MAX_NUMBER = 19
EPSILONS = (0.0, 0.25, 0.5, 0.75, 1.0)
PAD, BOS, QM, MID, NONE, HAS, SEP, PRONOUN, QD = range(9)
_OPERATORS = "+-*"
_FIRST_EPSILON = 9
_FIRST_OPERATOR = _FIRST_EPSILON + len(EPSILONS)
_FIRST_NUMBER = _FIRST_OPERATOR + len(_OPERATORS)
_FIRST_NAME = _FIRST_NUMBER + MAX_NUMBER
YES, NO, MORE = range(_FIRST_NAME + len(NAMES), _FIRST_NAME + len(NAMES) + 3)
VOCAB_SIZE = MORE + 1
CLAUSE = 7
FORCED = 5  # tokens of a step that are given: subquestion, next one, MID

_ROOT = re.compile(r"(\w+) has (\d+) \w+$")
_RELATION = re.compile(r"(\w+) has (\d+) (more|fewer|times as many) \w+ (?:than|as) (\w+)$")
_ASKED = re.compile(r"does (\w+) have\?$")
_COMPARED = re.compile(r"Does (\w+) have more \w+ than (\w+)\?$")
_WORDS = {"more": "+", "fewer": "-", "times as many": "*"}


class Fact(NamedTuple):
    """`target` has `operand` more, fewer or times as many as `source`; the root has no source."""

    target: str
    operator: str
    operand: int
    source: str


class Plan(NamedTuple):
    """A problem at one granularity, in tokens.

    Attributes:
      problem: ids of BOS, facts and question.
      questions: [n, 2], the subquestions in order.
      solutions: n lists of ids, each ending in SEP.
      answers: [n] ids of what the sub-solutions end in, numbers or YES or NO.
      clauses: [n], how many clauses a sub-solution has.
    """

    problem: list[int]
    questions: list[tuple[int, int]]
    solutions: list[list[int]]
    answers: list[int]
    clauses: list[int]


def number_id(value: int) -> int:
    """The token of a number 1..19. Raises ValueError beyond."""
    if not 1 <= value <= MAX_NUMBER:
        raise ValueError(f"compact tokens hold 1 to {MAX_NUMBER}, got {value}")
    return _FIRST_NUMBER + value - 1


def name_id(name: str) -> int:
    """The token of a person."""
    return _FIRST_NAME + NAMES.index(name)


def is_number(ids: Any) -> Any:
    """Which tokens are numbers."""
    return (ids >= _FIRST_NUMBER) & (ids < _FIRST_NAME)


def is_answer(ids: Any) -> Any:
    """Which tokens can answer a subquestion: numbers, yes and no."""
    return is_number(ids) | (ids == YES) | (ids == NO)


def epsilon_id(epsilon: float) -> int:
    """The token of the nearest of the five granularities."""
    return _FIRST_EPSILON + int(np.argmin(np.abs(np.array(EPSILONS) - epsilon)))


def coarsen(full: Decomposition, epsilon: float) -> Decomposition:
    """`set_granularity` in mode "drop" for a generated problem, whose siblings lead nowhere.

    The rule for texts takes a link whose number happens to stand in the problem for one that does
    not contribute; here the chain is known.
    """
    facts = _facts(full)
    chain = set()
    for name in _compared(full.steps[-1]) or (_asked(full.steps[-1]),):
        while name:
            chain.add(name)
            name = facts[name].source
    contributes = [_asked(step) in chain for step in full.steps]
    return set_granularity(full, epsilon, "drop", contributes)


def encode(full: Decomposition, d: Decomposition, *, ambiguous: bool = True) -> Plan:
    """The plan `d`, made from the decomposition `full` of a generated problem.

    Args:
      full: what `toy_problem` gave.
      d: `full`, or what `coarsen(full, epsilon)` makes of it.
      ambiguous: whether pronouns stand for persons that the next subquestion names.

    Raises:
      ValueError: a number beyond 19.
    """
    facts = _facts(full)
    compared = _compared(d.steps[-1])
    asked = [_asked(step) for step in d.steps[: len(d.steps) - bool(compared)]]
    values = {
        _asked(step): int(step.answer) for step in full.steps[: len(full.steps) - bool(compared)]
    }
    questions = []
    for i, name in enumerate(asked):
        named_next = i + 1 < len(asked) and facts[asked[i + 1]].source == name
        source = facts[name].source
        questions.append(
            (
                PRONOUN if ambiguous and named_next else name_id(name),
                name_id(source) if source else NONE,
            )
        )
    if compared:
        questions.append((name_id(compared[0]), name_id(compared[1])))
    solutions = [_solution(step, facts, values) for step in d.steps]
    problem = [BOS]
    for fact in facts.values():
        problem += fact_ids(fact)
    problem += [MORE, *questions[-1]] if compared else [QM, name_id(asked[-1])]
    return Plan(
        problem,
        questions,
        [[*ids, SEP] for _, ids in solutions],
        [ids[-1] for _, ids in solutions],
        [count for count, _ in solutions],
    )


def fact_ids(fact: Fact) -> list[int]:
    """`T op b S`, or `T HAS v` for the root."""
    if not fact.source:
        return [name_id(fact.target), HAS, number_id(fact.operand)]
    return [
        name_id(fact.target),
        _FIRST_OPERATOR + _OPERATORS.index(fact.operator),
        number_id(fact.operand),
        name_id(fact.source),
    ]


def forced_tokens(plan: Plan, cgd: bool) -> list[list[int]]:
    """For each step what stands before its solution: subquestion, next one, MID or MORE.

    Without `cgd` the place of the next subquestion holds NONE, for the last step as well.
    """
    following = [*plan.questions[1:], (NONE, NONE)]
    if not cgd:
        following = [(NONE, NONE)] * len(plan.questions)
    opened = [MID] * (len(plan.questions) - 1) + [MORE if plan.problem[-3] == MORE else MID]
    return [[*q, *f, m] for q, f, m in zip(plan.questions, following, opened, strict=True)]


def answer_document(
    plan: Plan,
    *,
    cgd: bool = True,
    solutions: Sequence[Sequence[int]] | None = None,
    hide_results: bool = False,
) -> Document:
    """A problem with its steps, of which the sub-solutions are learned.

    Args:
      plan: the problem and its subquestions.
      cgd: whether each step shows the next subquestion.
      solutions: sub-solutions instead of the plan's; steps beyond them are left out.
      hide_results: leaves the computed number of each clause out of the loss.
    """
    ids, learned = list(plan.problem), [False] * len(plan.problem)
    solutions = plan.solutions if solutions is None else solutions
    for forced, solution in zip(forced_tokens(plan, cgd), solutions, strict=False):
        ids += [*forced, *solution]
        learned += [False] * FORCED + _learned(solution, hide_results)
    return Document(np.array(ids, np.int32), np.array(learned, bool))


def plan_document(plan: Plan, facts: dict[int, list[int]], epsilon: float) -> Document:
    """The same network's other task: the subquestions of a problem, back to front, numbered down.

    facts: the ids of each person's fact, by the person's id.
    """
    ids = [*plan.problem, epsilon_id(epsilon), QD]
    given = len(ids)
    targets = plan_targets(plan)
    for number, target in reversed(list(enumerate(targets, start=1))):
        fact = facts[target]
        ids += [number_id(number), *fact, *[NONE] * (4 - len(fact))]
    ids.append(SEP)
    learned = [i >= given for i in range(len(ids))]
    return Document(np.array(ids, np.int32), np.array(learned, bool))


def plan_targets(plan: Plan) -> list[int]:
    """The persons that the steps ask for, pronouns resolved."""
    return [
        solution[-CLAUSE - 1] if len(solution) > 4 else solution[0] for solution in plan.solutions
    ]


def facts_by_id(full: Decomposition) -> dict[int, list[int]]:
    """The ids of each person's fact, by the person's id."""
    return {name_id(name): fact_ids(fact) for name, fact in _facts(full).items()}


def describe(ids: Sequence[int]) -> str:
    """Tokens as text, for transcripts."""
    return " ".join(_WORD[i] for i in ids if i != PAD)


_WORD = {
    PAD: "_",
    BOS: "",
    QM: "?",
    MID: "<MID>",
    NONE: "-",
    HAS: "has",
    SEP: ";",
    PRONOUN: "they",
    QD: "<QD>",
}
_WORD |= {_FIRST_EPSILON + i: f"<EPS {e:g}>" for i, e in enumerate(EPSILONS)}
_WORD |= {_FIRST_OPERATOR + i: op for i, op in enumerate(_OPERATORS)}
_WORD |= {_FIRST_NUMBER + i: str(i + 1) for i in range(MAX_NUMBER)}
_WORD |= {_FIRST_NAME + i: name for i, name in enumerate(NAMES)}
_WORD |= {YES: "yes", NO: "no", MORE: "<MORE>"}


def _asked(step: Step) -> str:
    """The person whose number is asked for; "" in a comparison."""
    found = _ASKED.search(step.question)
    return found.group(1) if found else ""


def _compared(step: Step) -> tuple[str, str] | None:
    """The two persons of a comparison."""
    found = _COMPARED.match(step.question)
    return (found.group(1), found.group(2)) if found else None


def _facts(full: Decomposition) -> dict[str, Fact]:
    """The facts of the problem's text, in its order, by person."""
    facts = {}
    for sentence in full.problem.split(". ")[:-1]:
        if relation := _RELATION.match(sentence):
            target, operand, word, source = relation.groups()
            facts[target] = Fact(target, _WORDS[word], int(operand), source)
        else:
            target, value = _ROOT.findall(sentence)[0]
            facts[target] = Fact(target, "", int(value), "")
    return facts


def _solution(step: Step, facts: dict[str, Fact], values: dict[str, int]) -> tuple[int, list[int]]:
    """(number of clauses, their ids)."""
    ids, lines = [], step.solution.split("\n")
    for line in lines:
        name, *_, word = line.rstrip(".").split(" ")
        if word in ("yes", "no"):
            for person in _compared(step) or ():
                ids += [name_id(person), number_id(values[person])]
            ids.append(YES if word == "yes" else NO)
            continue
        fact = facts[name]
        ids += fact_ids(fact)
        if fact.source:
            ids += [number_id(values[fact.source]), name_id(name), number_id(values[name])]
    return len(lines), ids


def _learned(solution: Sequence[int], hide_results: bool) -> list[bool]:
    learned = [True] * len(solution)
    start = 0
    while hide_results and solution[start] != SEP:
        if solution[start + 1] == HAS:
            start += 3
        else:
            start += CLAUSE
            learned[start - 1] = False
    return learned
