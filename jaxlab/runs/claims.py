"""A sentence of a paper beside what a run measured, and the verdict."""

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from jaxlab.runs import atomic

VERDICTS = ("pass", "fail", "reported", "not run")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row of a claims table.

    Attributes:
      id: the row's name in its specification, as `LS1`.
      statement: one sentence of the paper.
      paper: the number that the paper gives, ready to print; `""` where it gives none.
      measured: the number that this run measured, with its spread over seeds.
      verdict: `pass` or `fail` against the criterion; `reported` for figures that have no
        criterion at this preset; `not run` for what this preset or machine cannot measure.
      unit: unit of both numbers.
      detail: the criterion, the analogue measured on, the reason why a row did not run.

    Raises:
      ValueError: unknown verdict, an empty id, or `not run` without the reason.
      TypeError: a field that is not a string.
    """

    id: str
    statement: str
    paper: str
    measured: str
    verdict: str
    unit: str = ""
    detail: str = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str):
                raise TypeError(
                    f"Claim.{field.name} must be a string ready to print, got "
                    f"{type(value).__name__} {value!r}"
                )
        if not self.id:
            raise ValueError("Claim.id is empty; give the row's name in its specification")
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(VERDICTS)}")
        if self.verdict == "not run" and not self.detail:
            raise ValueError(f"claim {self.id} was not run: say why in `detail`")


def holds(condition) -> str:
    """The verdict of a criterion: `pass` if it is true, else `fail`."""
    return "pass" if bool(condition) else "fail"


def not_run(id: str, statement: str, reason: str, *, paper: str = "", unit: str = "") -> Claim:
    """The row of what this preset or machine cannot measure, and why."""
    return Claim(id, statement, paper, "", "not run", unit, reason)


def claim_order(claim: Claim) -> tuple[float, str]:
    """A sort key by the number in the row's name: `C9`, `C9-own`, `C10`, then rows without one."""
    ((number, variant),) = re.findall(r"^[A-Z]*(\d*)(.*)$", claim.id)
    return float(number or "inf"), variant


def write_claims(path: str | os.PathLike, claims: Iterable[Claim]) -> list[Claim]:
    """Writes the claims as a JSON list of objects and returns them.

    Raises:
      ValueError: two rows with the same id.
    """
    claims = list(claims)
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"claim ids occur twice: {', '.join(twice)}")
    atomic.write_json(path, [dataclasses.asdict(claim) for claim in claims])
    return claims


def read_claims(path: str | os.PathLike) -> list[Claim]:
    """Reads what `write_claims` wrote.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a list of claims.
    """
    rows = json.loads(Path(path).read_text("utf-8"))
    try:
        return [Claim(**row) for row in rows]
    except TypeError as error:
        raise ValueError(f"{path} is not a list of claims: {error}") from error


def format_claims(claims: Iterable[Claim], width: int = 100) -> str:
    """The claims as a plain-text table, `width` columns wide."""
    claims = list(claims)
    columns = [
        ("claim", [claim.id for claim in claims]),
        ("verdict", [claim.verdict for claim in claims]),
        ("paper", [with_unit(claim.paper, claim.unit) for claim in claims]),
        ("measured", [with_unit(claim.measured, claim.unit) for claim in claims]),
    ]
    caps = [12, 8, (width - 26) // 3, width]
    widths = [
        min(cap, max(len(text) for text in [head, *cells]))
        for (head, cells), cap in zip(columns, caps, strict=True)
    ]
    rows = [[head for head, _ in columns], *zip(*(cells for _, cells in columns), strict=True)]
    lines = [
        "  ".join(_fit(cell, w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * min(width, max(map(len, lines))), *lines[1:]])


def with_unit(number: str, unit: str) -> str:
    """The number as it is printed; nothing where there is none."""
    return f"{number} {unit}".strip() if number else ""


def count_verdicts(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims have each verdict, in the order of `VERDICTS`."""
    verdicts = [claim.verdict for claim in claims]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"
