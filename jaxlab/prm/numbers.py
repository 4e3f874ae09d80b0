"""Numbers in running text, exactly: every value is a `Fraction`, never a float."""

import re
from fractions import Fraction

_DECIMAL = re.compile(r"[0-9][0-9,]*\.?[0-9]*|\.[0-9]+")
_SIGNS = "+\u2212-"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[{_SIGNS}]?) \s* (?P<currency>[$€£]?) \s* (?P<inner>[{_SIGNS}]?) \s*
    (?P<digits>[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)
    (?:/(?P<denominator>[0-9][0-9,]*))?
    \s*%? (?:[^\W\d_]|\s)* \.?
    """,
    re.VERBOSE,
)


def numbers_in(text: str) -> tuple[Fraction, ...]:
    """The unsigned decimals of `text` in order, thousands commas removed.

    Raises:
      TypeError: `text` is no string.
    """
    check_text(text)
    return tuple(_fraction(match) for match in _DECIMAL.findall(text))


def last_decimal(text: str) -> str | None:
    """The last number of `numbers_in` as it stands in `text`, without a trailing point or comma."""
    found = _DECIMAL.findall(text)
    return found[-1].rstrip(".,") if found else None


def parse_number(s: str) -> Fraction | None:
    """The value of a string that is one number, or None.

    A sign on either side of a currency sign, commas anywhere among the digits, a decimal part, a
    denominator, a percent sign (which does not divide), a unit of letters and a final point are
    all allowed: "-$1,200.", "3/4", "25%", "18 dollars".

    Raises:
      TypeError: `s` is no string.
    """
    check_text(s)
    match = _NUMBER.fullmatch(" ".join(s.split()))  # runs of spaces would take cubic time
    if match is None or (match["sign"] and match["inner"]):
        return None
    value = _fraction(match["digits"])
    if match["denominator"]:
        denominator = _fraction(match["denominator"])
        if not denominator:
            return None
        value /= denominator
    sign = match["sign"] or match["inner"]
    return value if sign in ("", "+") else -value


def format_number(v) -> str:
    """An integer without a point, anything else with at most ten decimals and no zeros at the end.

    Args:
      v: an int, Fraction, Decimal or float.
    """
    scaled = round(Fraction(v) * 10**10)
    whole, decimals = divmod(abs(scaled), 10**10)
    text = f"{whole}.{decimals:010d}".rstrip("0").rstrip(".")
    return f"-{text}" if scaled < 0 else text


def check_text(text: str) -> None:
    """Raises TypeError unless `text` is a string."""
    if not isinstance(text, str):
        raise TypeError(f"expected a string, got {type(text).__name__} {text!r}")


def _fraction(decimal: str) -> Fraction:
    return Fraction(decimal.replace(",", "").rstrip("."))
