"""Drills start the scripts as a user does, break something, and look at what is left.

`pytest tests/drills --drill-table=docs/results/drills.md` writes the outcomes as a table.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxlab.runs import describe_environment

ROOT = Path(__file__).parents[2]
_RUN_SCRIPT = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
_OUTCOMES: list[tuple[str, str, float]] = []


def pytest_addoption(parser):
    parser.addoption("--drill-table", help="Markdown file that gets a row for every drill.")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


def pytest_runtest_logreport(report):
    if report.when == "call" and "drills/" in report.nodeid:
        test, bracket, case = report.nodeid.split("::")[-1].removeprefix("test_").partition("[")
        name = test.replace("_", " ") + bracket + case
        _OUTCOMES.append((name, report.outcome, report.duration))


def pytest_sessionfinish(session):
    path = session.config.getoption("drill_table", default=None)
    if path and _OUTCOMES:
        today = datetime.date.today().isoformat()
        new = {name: f"{outcome} | {s:.0f} s | {today}" for name, outcome, s in _OUTCOMES}
        rows = [f"| {name} | {rest} |" for name, rest in (_rows_of(Path(path)) | new).items()]
        Path(path).write_text("\n".join([*_head(), *rows]) + "\n", "utf-8")


def _head() -> list[str]:
    environment = describe_environment()
    return [
        "# Drills",
        "",
        "`pytest tests/drills --drill-table=docs/results/drills.md` adds what it ran to the rows "
        "that are there.",
        "",
        f"Last on {environment['platform']}, python {environment['python']}, "
        f"jax {environment['versions']['jax']}.",
        "",
        "| drill | outcome | wall | date |",
        "|---|---|---|---|",
    ]


def _rows_of(table: Path) -> dict[str, str]:
    """The rows of an earlier table by name."""
    lines = table.read_text("utf-8").splitlines() if table.exists() else []
    cells = [line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ")]
    return {name: rest for name, rest in cells if name != "drill"}


@pytest.fixture
def start(tmp_path):
    """start(system, *flags, before="") -> a running script; `before` is code it executes first."""
    running = []

    def run(system, *flags, before=""):
        script = str(ROOT / "scripts" / f"{system}.py")
        process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{_RUN_SCRIPT}", script, *flags],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        if not process.stdout.closed:
            process.communicate()
