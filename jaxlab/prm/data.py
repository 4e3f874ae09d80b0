"""Reads problem sets: pairs of a question and an answer, checked row by row."""

import math
from collections.abc import Iterator
from fractions import Fraction
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxlab.checks import check_choice
from jaxlab.prm.decomposition import Decomposition, Step
from jaxlab.prm.numbers import format_number
from jaxlab.user_files import read_json, read_json_lines, read_text

Pairs = list[tuple[str, str]]


class StepwiseRow(NamedTuple):
    """A prompt, the steps of one completion, and whether each is right [steps] (1, 0, or soft)."""

    prompt: str
    steps: tuple[str, ...]
    labels: np.ndarray


PROBLEM_SETS = {
    "gsm8k_train": "train.jsonl.gz",
    "gsm8k_test": "test.jsonl.gz",
    "gsm8k_test_socratic": "test_socratic.jsonl.gz",
    "gsm8k_model_solutions": "example_model_solutions.jsonl.gz",
    "svamp": "SVAMP.json.gz",
    "strategyqa": "strategyqa_train.json.gz",
}


def problem_set(name: str) -> Path:
    """Where a problem set that comes with this package lies, for the loaders below.

    Raises:
      ValueError: unknown name.
    """
    check_choice("name", name, PROBLEM_SETS)
    return Path(str(resources.files("jaxlab.prm") / "problem_sets" / PROBLEM_SETS[name]))


def load_gsm8k(path: str | PathLike) -> Pairs:
    """(question, solution ending in "#### value") of a .jsonl or .jsonl.gz; blank lines skipped.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line that is not JSON or has no such field, with path and line.
    """
    return [
        (_field(row, "question", str, where), _field(row, "answer", str, where))
        for where, row in read_json_lines(path)
    ]


def load_svamp(path: str | PathLike) -> Pairs:
    """(body and question, bare answer) of SVAMP's JSON list; raises as `load_gsm8k`."""
    pairs = []
    for where, row in _json_list(path):
        # A third of the bodies end without a full stop.
        body = _field(row, "Body", str, where).strip()
        body = body if body.endswith((".", "?", "!")) else f"{body}."
        answer = _field(row, "Answer", (int, float), where)
        question = f"{body} {_field(row, 'Question', str, where).strip()}"
        pairs.append((question, format_number(Fraction(str(answer)))))
    return pairs


def load_strategyqa(path: str | PathLike) -> Pairs:
    """(question, "yes" or "no") of StrategyQA's JSON list; raises as `load_gsm8k`."""
    return [
        (_field(row, "question", str, where), _yes_no(row, where))
        for where, row in _json_list(path)
    ]


def load_strategyqa_decompositions(
    path: str | PathLike, facts: bool = False
) -> list[Decomposition]:
    """StrategyQA with its human subquestions, in which #k is the k-th answer.

    Args:
      path: as of `load_strategyqa`.
      facts: puts the row's facts in order as sub-solutions, one a step, those left over into the
        last step, whose answer is the problem's; those of the other steps are not known. Without
        them there are no sub-solutions.
    """
    rows = []
    for where, row in _json_list(path):
        questions = _field(row, "decomposition", list, where)
        answer = _yes_no(row, where)
        texts = _field(row, "facts", list, where) if facts else []
        before = max(0, len(questions) - 1)
        solutions = [*texts[:before], *[""] * (before - len(texts)), " ".join(texts[before:])]
        answers = [None] * before + [answer if facts else None]
        steps = map(Step, questions, solutions, answers)
        rows.append(Decomposition(_field(row, "question", str, where), tuple(steps), answer))
    return rows


def load_math(path: str | PathLike) -> Pairs:
    """(problem, solution with the answer in a box) of a folder of MATH, `SUBJECT/NUMBER.json`.

    Raises:
      FileNotFoundError: no such folder, or no JSON file in it.
      ValueError: a file that is not JSON or has no such field, with path and line.
    """
    files = sorted(Path(path).rglob("*.json"), key=lambda p: (p.parent, len(p.name), p.name))
    if not files:
        raise FileNotFoundError(f"no .json file under {path}")
    pairs = []
    for file in files:
        row, where = read_json(file), f"{file}:1"
        pairs.append((_field(row, "problem", str, where), _field(row, "solution", str, where)))
    return pairs


def load_asdiv(path: str | PathLike) -> Pairs:
    """(body and question, answer without its unit) of ASDiv's XML; raises as `load_gsm8k`."""
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}:{error.position[0]}: broken XML: {error}") from None
    pairs = []
    for problem in root.iter("Problem"):
        parts = {}
        for name in ("Body", "Question", "Answer"):
            text = problem.findtext(name)
            if text is None:
                raise ValueError(f"{path}: problem {problem.get('ID')} has no {name}")
            parts[name] = text.strip()
        answer = parts["Answer"].split("(")[0].strip()
        pairs.append((f"{parts['Body']} {parts['Question']}", answer))
    return pairs


def load_stepwise(path: str | PathLike) -> list[StepwiseRow]:
    """Rows {"prompt", "completions": [step], "labels": [bool or number]} of a .jsonl (or .gz).

    The format of Math-Shepherd and of stepwise trainers. Raises as `load_gsm8k`, and ValueError
    for numbers of steps and labels that differ.
    """
    rows = []
    for where, row in read_json_lines(path):
        steps = tuple(_field(row, "completions", list, where))
        labels = np.asarray(_field(row, "labels", list, where), np.float32)
        if labels.shape != (len(steps),):
            raise ValueError(f"{where}: {len(steps)} steps but labels of shape {labels.shape}")
        if not all(math.isfinite(x) and 0 <= x <= 1 for x in labels):
            raise ValueError(f"{where}: labels must lie in [0, 1], got {labels}")
        rows.append(StepwiseRow(_field(row, "prompt", str, where), steps, labels))
    return rows


def _yes_no(row: Any, where: str) -> str:
    return "yes" if _field(row, "answer", bool, where) else "no"


def _json_list(path) -> Iterator[tuple[str, Any]]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}:1: expected a list, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        yield f"{path}: row {number}", row


def _field(row: Any, name: str, kind, where: str) -> Any:
    if not isinstance(row, dict) or name not in row:
        raise ValueError(f"{where}: no field {name!r}")
    if not isinstance(row[name], kind):
        raise ValueError(f"{where}: {name} is a {type(row[name]).__name__}: {row[name]!r}")
    return row[name]
