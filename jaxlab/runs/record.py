"""Keeps a finished run in the repository: its claims as Markdown, beside its figures."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from jaxlab.runs import atomic
from jaxlab.runs.claims import Claim, count_verdicts, read_claims, with_unit


def record(workdir: str | os.PathLike, directory: str | os.PathLike) -> Path:
    """Writes `directory/README.md` and copies the run's figures beside it.

    Args:
      workdir: a finished run.
      directory: replaced where it exists, one per system and preset.

    Returns:
      The path of the Markdown file.

    Raises:
      FileNotFoundError: the run is not finished; the message names the missing file.
    """
    workdir, directory = Path(workdir), Path(directory)
    about, summary = (_read(workdir / name) for name in ("config.json", "summary.json"))
    claims = read_claims(workdir / "claims.json")
    figures = sorted((workdir / "figures").glob("*.png"))
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    for figure in figures:
        shutil.copyfile(figure, directory / figure.name)
    return atomic.write_text(directory / "README.md", _page(about, summary, claims, figures))


def main(argv: list[str] | None = None) -> None:
    """The command `jaxlab-record WORKDIR DIRECTORY`."""
    parser = argparse.ArgumentParser(description="Keep a finished run's claims and figures.")
    parser.add_argument("workdir")
    parser.add_argument("directory")
    arguments = parser.parse_args(argv)
    print(record(arguments.workdir, arguments.directory))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"the run is not finished: {path} is missing")
    return json.loads(path.read_text("utf-8"))


def _page(
    about: dict[str, Any], summary: dict[str, Any], claims: list[Claim], figures: list[Path]
) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in count_verdicts(claims).items())
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
    lines = [
        f"# {summary['system']}, preset {about['preset']}",
        "",
        f"{counts}.",
        "",
        f"- command: `{summary['command']}`",
        f"- started {about['created']}, {summary['wall_seconds']:.0f} s",
        f"- {about['platform']}, {about['device']}; python {about['python']}, {versions}",
        f"- revision {about['git_revision']}",
        "",
        "| claim | statement | paper | measured | verdict |",
        "|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(map(_cell, _row(claim))) + " |" for claim in claims]
    for figure in figures:
        lines += ["", f"![{figure.stem.replace('_', ' ')}]({figure.name})"]
    return "\n".join(lines) + "\n"


def _row(claim: Claim) -> tuple[str, ...]:
    statement = f"{claim.statement}<br>{claim.detail}" if claim.detail else claim.statement
    paper, measured = (with_unit(x, claim.unit) for x in (claim.paper, claim.measured))
    return claim.id, statement, paper, measured, f"**{claim.verdict}**"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
