"""Every system beside its peer, one benchmark after the other, and one table of all rows.

    python benchmarks/all.py --workdir=out/benchmarks
    python benchmarks/all.py --only=lm,autoprm --rounds=3

Each benchmark runs in a process of its own, into WORKDIR/NAME; WORKDIR/benchmarks.md is the table,
with the claims. One that fails, for want of its peer or otherwise, is a line below the table, and
the exit code 1.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from harness import Row, format_table

from jaxlab.runs import Claim, format_claims, read_claims

_HERE = Path(__file__).resolve().parent
# `lm_checkpoint` compares a folder of the user's.
_OTHERS = ("all", "harness", "lm_checkpoint")


def main() -> int:
    names = sorted(path.stem for path in _HERE.glob("*.py") if path.stem not in _OTHERS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("out/benchmarks"))
    parser.add_argument("--rounds", type=int, help="counted calls of each side")
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(names)}")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"unknown benchmarks {', '.join(unknown)}; there are {', '.join(names)}")
    rows: list[Row] = []
    claims: list[Claim] = []
    failures: dict[str, str] = {}
    for name in chosen:
        print(f"{name} ...", flush=True)
        folder = arguments.workdir / name
        if failure := run(name, folder, arguments.rounds):
            failures[name] = failure
            continue
        found = json.loads((folder / "artifacts" / "benchmark.json").read_text("utf-8"))
        rows += [Row(**row)._replace(name=f"{name}: {row['name']}") for row in found]
        claims += read_claims(folder / "claims.json")
    parts = [format_table("Side by side", rows)] if rows else []
    parts += [f"```\n{format_claims(claims)}\n```"] if claims else []
    parts += [f"- {name} did not run: {failure}" for name, failure in failures.items()]
    table = "\n\n".join(parts)
    print(f"\n{table}\n")
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    (arguments.workdir / "benchmarks.md").write_text(table + "\n", "utf-8")
    return int(bool(failures))


def run(name: str, folder: Path, rounds: int | None) -> str:
    """Runs one benchmark into its folder; the last line of what it printed if it failed."""
    command = [sys.executable, str(_HERE / f"{name}.py"), f"--workdir={folder}"]
    if rounds is not None:
        command.append(f"--rounds={rounds}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{name}.log"
    with open(log, "w", encoding="utf-8") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if not code:
        return ""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["no output"]
    return f"{lines[-1]} (exit code {code}, see {log.name})"


if __name__ == "__main__":
    sys.exit(main())
