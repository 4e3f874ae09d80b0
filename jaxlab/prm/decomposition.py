"""Problems decomposed into subquestions, and the switch that sets how finely.

AutoPRM (Chen et al. 2024, arXiv 2402.11452). Its switch is the share of sub-solutions that
contribute to the answer; the rules here make that exact.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from jaxlab.checks import check_choice
from jaxlab.prm.calculator import calculator_annotations
from jaxlab.prm.numbers import check_text, last_decimal, numbers_in, parse_number

MODES = ("merge", "drop")
_CLOSING = re.compile(r"\b(yes|no)\W*$", re.IGNORECASE)


class Step(NamedTuple):
    """A subquestion, its solution, and the answer in the solution (see `step_answer`), or None."""

    question: str
    solution: str
    answer: str | Any


class Decomposition(NamedTuple):
    """A problem, its steps in order, and the final answer."""

    problem: str
    steps: tuple[Step, ...]
    answer: str


def parse_socratic(question: str, answer: str) -> Decomposition:
    """Reads a row of GSM8K's Socratic files: lines `subquestion ** solution`, then `#### value`.

    Raises:
      TypeError: not strings.
      ValueError: a line without " ** ", no "####" line at the end, or no step.
    """
    check_text(question)
    check_text(answer)
    *lines, last = [line for line in answer.split("\n") if line.strip()] or [""]
    marker, value = last[:4], last[4:].strip()
    if marker != "####" or not value:
        raise ValueError(f"the last line must be '#### value', got {last!r}")
    if not lines:
        raise ValueError(f"no step before {last!r}")
    return Decomposition(question, tuple(map(_parse_step, lines)), value)


def step_answer(solution: str) -> str | None:
    """The value of the last calculator annotation, else the last number, else a closing yes or no.

    None if there is none of them.
    """
    annotations = calculator_annotations(solution)
    if annotations:
        return annotations[-1][1].strip()
    closing = _CLOSING.search(solution)
    return last_decimal(solution) or (closing.group(1).lower() if closing else None)


def contributing_steps(d: Decomposition) -> tuple[bool, ...]:
    """For each step whether it brings a number that the problem lacked and a later step uses.

    The last step always contributes.
    """
    given: set = set(numbers_in(d.problem))
    used_after, used = [], set()
    for step in reversed(d.steps):
        used_after.append(frozenset(used))
        used |= set(numbers_in(step.solution))
    contributes = []
    for step, later in zip(d.steps, reversed(used_after), strict=True):
        value = _value(step)
        contributes.append(value is not None and value not in given and value in later)
        given.add(value)
    return (*contributes[:-1], True) if d.steps else ()


def set_granularity(
    d: Decomposition,
    epsilon: float,
    mode: str = "merge",
    contributes: Sequence[bool] | None = None,
) -> Decomposition:
    """Keeps `max(1, floor(epsilon n + 1/2))` of the n steps; 1 keeps all, 0 only the last.

    Steps that do not contribute go first, then those that do, each in order; the last never goes.
    What a smaller epsilon keeps, a larger one keeps too.

    Args:
      d: the full decomposition.
      epsilon: in [0, 1].
      mode: what becomes of a removed step. "merge": its solution is put before that of the next
        kept step. "drop": the same if it contributes, else it vanishes.
      contributes: for each step, where that is known; by default `contributing_steps`.

    Raises:
      ValueError: epsilon outside [0, 1] or NaN, an unknown mode, no steps.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must lie in [0, 1], got {epsilon}")
    check_choice("mode", mode, MODES)
    if not d.steps:
        raise ValueError(f"there are no steps to keep in {d.problem!r}")
    n = len(d.steps)
    contributes = contributing_steps(d) if contributes is None else contributes
    removable = sorted(range(n - 1), key=lambda i: (contributes[i], i))
    removed = set(removable[: n - max(1, math.floor(epsilon * n + 0.5))])
    steps, pending = [], []
    for i, step in enumerate(d.steps):
        if i not in removed:
            steps.append(step._replace(solution="\n".join([*pending, step.solution])))
            pending = []
        elif mode == "merge" or contributes[i]:
            pending.append(step.solution)
    return d._replace(steps=tuple(steps))


def granularity(d: Decomposition, full: Decomposition) -> float:
    """The share of the steps of `full` that `d` has."""
    return len(d.steps) / len(full.steps)


def _parse_step(line: str) -> Step:
    question, separator, solution = line.partition(" ** ")
    if not separator:
        raise ValueError(f"a step is 'subquestion ** solution', got {line!r}")
    solution = solution.strip()
    return Step(question.strip(), solution, step_answer(solution))


def _value(step: Step) -> Fraction | None:
    return None if step.answer is None else parse_number(step.answer)
