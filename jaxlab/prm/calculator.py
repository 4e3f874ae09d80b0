"""The calculator annotations of GSM8K, `<<expression=value>>`, evaluated in exact arithmetic.

A grammar of its own rather than `eval`: the text is a model's, so it must never run, raise
anything but ValueError, or hang (Cobbe et al. 2021, arXiv 2110.14168, let the calculator
override sampling in the same way as `complete_calculator`).
"""

import math
import re
from fractions import Fraction

from jaxlab.prm.numbers import check_text, format_number, parse_number

_LONGEST = 200
_ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_OPEN = re.compile(r"<<([^<>=]*)=\Z")
_TOKEN = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+|//|[-+*/()%])")


def calculate(expr: str) -> Fraction:
    """The exact value of `+ - * / // ( )`, unary signs, decimals and a postfix % (a hundredth).

    Commas and "$" are dropped.

    Raises:
      TypeError: `expr` is no string.
      ValueError: anything else in `expr`, a division by zero, or over 200 characters.
    """
    check_text(expr)
    if len(expr) > _LONGEST:
        raise ValueError(f"an expression has at most {_LONGEST} characters, got {expr!r}")
    tokens = _tokens(expr)
    value, rest = _sum(tokens, 0, expr)
    if rest < len(tokens):
        raise ValueError(f"{tokens[rest]!r} is out of place in {expr!r}")
    return value


def calculator_annotations(text: str) -> tuple[tuple[str, str], ...]:
    """The (expression, value) pairs of `text` in order."""
    check_text(text)
    return tuple(_ANNOTATION.findall(text))


def strip_calculator(text: str) -> str:
    """`text` without its annotations."""
    check_text(text)
    return _ANNOTATION.sub("", text)


def check_calculator(text: str, tol: Fraction = Fraction(1, 100)) -> tuple[bool, ...]:
    """For each annotation whether its value is that of its expression, to within `tol`."""
    return tuple(_agrees(*pair, tol) for pair in calculator_annotations(text))


def complete_calculator(text: str) -> str | None:
    """What to append where `text` ends in an open `<<expr=`: `value>>`; None anywhere else."""
    check_text(text)
    call = _OPEN.search(text)
    if call is None:
        return None
    try:
        return f"{format_number(calculate(call[1]))}>>"
    except ValueError:
        return None


def _agrees(expr: str, value: str, tol: Fraction) -> bool:
    number = parse_number(value)
    try:
        return number is not None and abs(calculate(expr) - number) <= tol
    except ValueError:
        return False


def _tokens(expr: str) -> list[str]:
    text = expr.replace(",", "").replace("$", "").rstrip()
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot calculate {expr!r}: {text[position:].strip()[0]!r}")
        tokens.append(match[1])
        position = match.end()
    return tokens


def _sum(tokens, i, expr):
    value, i = _product(tokens, i, expr)
    while i < len(tokens) and tokens[i] in ("+", "-"):
        term, after = _product(tokens, i + 1, expr)
        value = value + term if tokens[i] == "+" else value - term
        i = after
    return value, i


def _product(tokens, i, expr):
    value, i = _signed(tokens, i, expr)
    while i < len(tokens) and tokens[i] in ("*", "/", "//"):
        factor, after = _signed(tokens, i + 1, expr)
        if tokens[i] == "*":
            value *= factor
        elif not factor:
            raise ValueError(f"division by zero in {expr!r}")
        else:
            value /= factor
            if tokens[i] == "//":
                value = Fraction(math.floor(value))
        i = after
    return value, i


def _signed(tokens, i, expr):
    sign = 1
    while i < len(tokens) and tokens[i] in ("+", "-"):
        sign = -sign if tokens[i] == "-" else sign
        i += 1
    value, i = _atom(tokens, i, expr)
    while i < len(tokens) and tokens[i] == "%":
        value /= 100
        i += 1
    return sign * value, i


def _atom(tokens, i, expr):
    if i == len(tokens):
        raise ValueError(f"{expr!r} ends where a number is due")
    if tokens[i] == "(":
        value, i = _sum(tokens, i + 1, expr)
        if i == len(tokens) or tokens[i] != ")":
            raise ValueError(f"unbalanced parenthesis in {expr!r}")
        return value, i + 1
    if tokens[i][0] in ".0123456789":
        return Fraction(tokens[i].rstrip(".")), i + 1
    raise ValueError(f"{tokens[i]!r} is out of place in {expr!r}")
