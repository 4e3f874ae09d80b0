"""Measures the claims of every system and writes one report.

    python scripts/reproduce.py --preset=smoke --workdir=out/reproduce
    python scripts/reproduce.py --systems=large_stepsize_gd --preset=small

Each system runs in a process of its own, into WORKDIR/NAME; one that crashes becomes a red entry
of WORKDIR/report.html with the last lines of its log, and the others still run. The exit code is 1
if a system crashes or leaves out a row, and with --strict also if a claim fails. At smoke most
systems compile with `runs.quick_compiler_flags`, which are for a CPU.
"""

import concurrent.futures
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import app, flags

from jaxlab.runs import (
    Claim,
    count_verdicts,
    format_claims,
    quick_compiler_flags,
    read_claims,
    report,
)
from jaxlab.runs.environment import processor_count

# The systems and the rows that each must measure: a new system is one line.
SYSTEMS = {
    "large_stepsize_gd": "LS1 LS2 LS2b LS3 LS4 LS5 LS6 LS7 LS8 LS9 LS10 LS11 LS12",
    "icl_linear_block": "IL1 IL2 IL2b IL3 IL4 IL4b IL5 IL6 IL7 IL8",
    "lm": "L1 L2 L3 L4 L5 L6 L7 L8 L9 L10",
    "trust_bandits": "C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C11",
    "splat_classification": "S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 S12 S13",
    "speculative_rejection": "C1 C2 C3 C4 C5 C6 C7 C8 C9 C10",
    "two_hop_reasoning": "C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C11 C12 C13",
    "unlearning": "N1 N2 N3 N4 N5 N6 N7 N8 S1 S2 S3 S4 S5 S6 S7 S8",
    "autoprm": "A1 A2 A3 A3' A4 A5 A6 A7 A8 A9 A10 P1",
    "spreeze": "C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C11",
}

# Measures rates of the whole machine, so nothing runs beside it.
ALONE = ("spreeze",)

# These start first, so that at the end no long one runs by itself.
LONG = (
    "autoprm",
    "unlearning",
    "icl_linear_block",
    "splat_classification",
    "two_hop_reasoning",
)

# At smoke these, too, compute for longer than they compile.
COMPILED_IN_FULL = ("two_hop_reasoning", "splat_classification", "spreeze")

_SCRIPTS = Path(__file__).resolve().parent
_LOG_LINES = 25

flags.DEFINE_list("systems", list(SYSTEMS), "Which systems, comma-separated.")
flags.DEFINE_enum("preset", "smoke", ["smoke", "small", "paper"], "The settings of each system.")
flags.DEFINE_string("workdir", "out/reproduce", "Where each system's run and the report go.")
flags.DEFINE_integer("jobs", 1, "How many systems run at a time.", lower_bound=1)
flags.DEFINE_integer("seed", None, "Seed of every system; by default the preset's.")
flags.DEFINE_bool("overwrite", False, "Start again where the workdir holds earlier runs.")
flags.DEFINE_bool("strict", False, "A failed claim, too, makes the exit code 1.")


class Outcome(NamedTuple):
    """How one system ended."""

    name: str
    workdir: Path
    seconds: float
    claims: list[Claim]
    error: str  # last lines of the log, or the missing rows; "" where all is well

    @property
    def crashed(self) -> bool:
        """Whether it ended without claims; else an error names the rows that are missing."""
        return bool(self.error) and not self.claims


def main(argv: Sequence[str]) -> int:
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    unknown = sorted(set(values.systems) - SYSTEMS.keys())
    if unknown:
        raise app.UsageError(
            f"unknown systems {', '.join(unknown)}; there are {', '.join(SYSTEMS)}"
        )
    workdir = Path(values.workdir)
    outcomes = _run_all(workdir)
    errors = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    crashed = {outcome.name: outcome.error for outcome in outcomes if outcome.crashed}
    incomplete = {name: error for name, error in errors.items() if name not in crashed}
    page = report(
        [outcome.workdir for outcome in outcomes if outcome.claims],
        workdir / "report.html",
        crashed=crashed,
        incomplete=incomplete,
    )
    claims = [claim for outcome in outcomes for claim in outcome.claims]
    counts = count_verdicts(claims)
    print(f"\n{format_claims(claims)}\n" if claims else "")
    for name, error in errors.items():
        print(f"{name} {'crashed' if name in crashed else 'is incomplete'}:\n{error}\n")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), end="")
    print(f", {len(crashed)} of {len(outcomes)} systems crashed, {len(incomplete)} incomplete")
    print(f"report: {page}")
    return int(bool(errors) or (values.strict and counts["fail"] > 0))


def _run_all(workdir: Path) -> list[Outcome]:
    """Runs the systems, `--jobs` at a time, with a line as each one ends."""
    names = list(dict.fromkeys(flags.FLAGS.systems))
    outcomes: dict[str, Outcome] = {}
    together = sorted(set(names) - set(ALONE), key=lambda n: (n not in LONG, names.index(n)))
    for group in (together, *([name] for name in ALONE if name in names)):
        with concurrent.futures.ThreadPoolExecutor(flags.FLAGS.jobs) as pool:
            running = [pool.submit(_run_system, name, workdir) for name in group]
            try:
                for future in concurrent.futures.as_completed(running):
                    outcome = future.result()
                    outcomes[outcome.name] = outcome
                    print(f"[{len(outcomes)}/{len(names)}] {_line(outcome)}", flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # an interrupt ends what runs and starts no more
                raise
    return [outcomes[name] for name in names]


def _line(outcome: Outcome) -> str:
    """How a system ended, on one line."""
    told = [f"{n} {verdict}" for verdict, n in count_verdicts(outcome.claims).items() if n]
    told += ["INCOMPLETE"] * bool(outcome.error)
    state = "CRASHED" if outcome.crashed else ", ".join(told)
    return f"{outcome.name:<24} {outcome.seconds:6.1f} s  {state}"


def _run_system(name: str, parent: Path) -> Outcome:
    workdir, log = parent / name, parent / f"{name}.log"
    parent.mkdir(parents=True, exist_ok=True)
    values = flags.FLAGS
    command = [
        sys.executable,
        str(_SCRIPTS / f"{name}.py"),
        f"--preset={values.preset}",
        f"--workdir={workdir}",
        *([f"--seed={values.seed}"] if values.seed is not None else []),
        *(["--overwrite"] if values.overwrite else []),
    ]
    start = time.perf_counter()
    with open(log, "w", encoding="utf-8") as output:
        code = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(name, values.preset, values.jobs),
        ).returncode
    seconds = time.perf_counter() - start
    if code:
        tail = log.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return Outcome(name, workdir, seconds, [], "\n".join([*tail, f"exit code {code}"]))
    claims = read_claims(workdir / "claims.json")
    missing = set(SYSTEMS[name].split()) - {claim.id for claim in claims}
    error = f"rows missing from claims.json: {', '.join(sorted(missing))}" if missing else ""
    return Outcome(name, workdir, seconds, claims, error)


def _environment(name: str, preset: str, jobs: int) -> dict[str, str]:
    """A system's environment: its share of the processors, and at smoke quick compilation."""
    environment = {**os.environ}
    if name not in ALONE:
        # How many threads XLA computes with. Each system with as many as there are processors,
        # two side by side take a fifth longer.
        environment.setdefault("NPROC", str(max(processor_count() // jobs, 1)))
    if preset == "smoke" and name not in COMPILED_IN_FULL:
        own = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{quick_compiler_flags()} {own}"
    return environment


if __name__ == "__main__":
    app.run(main)
