"""One self-contained page for one or many runs: claims, figures, commands."""

import argparse
import base64
import datetime
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from jaxlab.runs import atomic
from jaxlab.runs.claims import VERDICTS, count_verdicts, read_claims


def report(
    workdirs: Iterable[str | os.PathLike],
    path: str | os.PathLike = "report.html",
    *,
    crashed: Mapping[str, str] | None = None,
    incomplete: Mapping[str, str] | None = None,
) -> Path:
    """Writes `path`: per run the claims table, the figures, the exact command, the wall time.

    Args:
      workdirs: run directories, in the order of the page; the folder's name is the system's where
        the run has no summary.
      path: the page; figures are inside it and nothing is loaded from elsewhere.
      crashed: last lines of the log of every system that ended without claims, by name.
      incomplete: what is missing from those of `workdirs` that left something out, by system.

    Returns:
      The page's path.

    Raises:
      FileNotFoundError: a directory that holds no run.
    """
    systems = [_system(Path(workdir)) for workdir in workdirs]
    claims = [claim for system in systems for claim in system["claims"]]
    page = _template().render(
        systems=systems,
        crashed=dict(crashed or {}),
        incomplete=dict(incomplete or {}),
        counts=count_verdicts(claims),
        total=len(claims),
        verdicts=VERDICTS,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return atomic.write_text(path, page)


def main(argv: list[str] | None = None) -> None:
    """The command `jaxlab-report WORKDIR... [-o report.html]`."""
    parser = argparse.ArgumentParser(description="Write one HTML page for run directories.")
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("-o", "--output", default="report.html")
    arguments = parser.parse_args(argv)
    print(report(arguments.workdirs, arguments.output))


def _system(workdir: Path) -> dict[str, Any]:
    record = workdir / "config.json"
    if not record.exists():
        raise FileNotFoundError(f"{workdir} holds no run: {record} is missing")
    summary = _read_json(workdir / "summary.json")
    claims = read_claims(workdir / "claims.json") if (workdir / "claims.json").exists() else []
    return {
        "name": summary.get("system", workdir.name),
        "command": summary.get("command", ""),
        "wall_seconds": summary.get("wall_seconds"),
        "record": json.loads(record.read_text("utf-8")),
        "finished": bool(summary),
        "claims": claims,
        "counts": count_verdicts(claims),
        "figures": [_figure(path) for path in sorted((workdir / "figures").glob("*.png"))],
    }


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _figure(path: Path) -> dict[str, str]:
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"name": path.stem.replace("_", " "), "uri": f"data:image/png;base64,{encoded}"}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxlab.runs", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["duration"] = _duration
    environment.filters["slug"] = lambda verdict: verdict.replace(" ", "-")
    return environment.get_template("report.html.j2")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not finished"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
