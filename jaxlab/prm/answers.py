"""The final answer that a solution gives, and whether it is right."""

import re
from collections.abc import Callable

from jaxlab.checks import check_choice
from jaxlab.prm.math_notation import normalize_math
from jaxlab.prm.numbers import check_text, parse_number

_SIGNED = re.compile(r"(?:(?<![\w)])[-\u2212])?\$?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)")
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_IS_YES = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def extract_answer(text: str, style: str = "gsm8k") -> str | None:
    """The answer in `text`, stripped, or None.

    Args:
      text: a solution, or a completion that may run on.
      style: where the answer stands. "gsm8k": after the first "####", to the end of its line;
        "sample": after the last "A:" that starts a line; "boxed": in the last balanced
        `\\boxed{}` or `\\fbox{}`; "last_number": the last number; "yes_no": the last of the words
        yes, no, true, false, as "yes" or "no".

    Raises:
      TypeError: `text` is no string.
      ValueError: unknown style.
    """
    check_text(text)
    return _extractor(style)(text)


def is_correct(prediction: str, gold: str, style: str = "gsm8k") -> bool:
    """Whether the answer extracted from `prediction` is `gold`, compared exactly.

    Numbers are compared as fractions, other strings without case; "boxed" compares
    `normalize_math` of both, "yes_no" takes true for yes.

    Args:
      prediction: a whole text.
      gold: the bare answer.
      style: see `extract_answer`.

    Raises:
      TypeError: a text is no string.
      ValueError: unknown style, a blank `gold`, or one that is neither yes nor no.
    """
    check_text(gold)
    found, gold = extract_answer(prediction, style), gold.strip()
    if not gold:
        raise ValueError("gold is blank: there is nothing to compare with")
    if style == "yes_no" and gold.lower() not in _IS_YES:
        raise ValueError(f"gold must be one of {', '.join(_IS_YES)}, got {gold!r}")
    if found is None:
        return False
    if style == "yes_no":
        return found == _IS_YES[gold.lower()]
    if style == "boxed":
        return normalize_math(found) == normalize_math(gold)
    numbers = parse_number(found), parse_number(gold)
    if None in numbers:
        return found.casefold() == gold.casefold()
    return numbers[0] == numbers[1]


def _extractor(style: str) -> Callable[[str], str | None]:
    check_choice("style", style, _EXTRACTORS)
    return _EXTRACTORS[style]


def _after_marker(text: str) -> str | None:
    _, _, rest = text.partition("####")
    return _nonempty(rest.split("\n", 1)[0])


def _last_answer_line(text: str) -> str | None:
    lines = [line for line in text.split("\n") if line.startswith("A:")]
    return _nonempty(lines[-1][2:]) if lines else None


def _last_box(text: str) -> str | None:
    for start in reversed([match.end() for match in re.finditer(r"\\(?:boxed|fbox)\{", text)]):
        depth = 1
        for i, character in enumerate(text[start:], start):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if not depth:
                return _nonempty(text[start:i])
    return None


def _last_number(text: str) -> str | None:
    found = _SIGNED.findall(text)
    return found[-1].rstrip(",") if found else None


def _last_verdict(text: str) -> str | None:
    found = _YES_NO.findall(text)
    return _IS_YES[found[-1].lower()] if found else None


def _nonempty(text: str) -> str | None:
    return text.strip() or None


_EXTRACTORS = {
    "gsm8k": _after_marker,
    "sample": _last_answer_line,
    "boxed": _last_box,
    "last_number": _last_number,
    "yes_no": _last_verdict,
}
