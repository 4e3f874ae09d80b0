"""Times two callables in turn in one process, and prints one table of ratios.

Both run under the same load, one after the other, round by round, so that the ratio of a pair
holds where the machine's speed drifts. The first calls compile and are not counted.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.runs import Claim, Run, describe_environment


class Row(NamedTuple):
    """One comparison.

    Attributes:
      name: what is measured.
      peer: with what.
      ours_s, peer_s: median wall seconds of a call.
      ours_cpu_s, peer_cpu_s: median processor seconds of a call, over all threads.
      speedup: median over rounds of peer time over ours; above 1 we are faster.
      low, high: smallest and largest of these ratios.
      note: sizes, threads, accuracy.
    """

    name: str
    peer: str
    ours_s: float
    peer_s: float
    ours_cpu_s: float
    peer_cpu_s: float
    speedup: float
    low: float
    high: float
    note: str = ""


def side_by_side(
    name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    peer_name: str,
    *,
    rounds: int = 7,
    warmup: int = 1,
    clock: str = "wall",
    note: str = "",
    peer_measures: bool = False,
) -> Row:
    """Calls `ours` and `peer` in turn and compares them pair by pair.

    Args:
      name, peer_name, note: for the table.
      ours, peer: called without arguments; what they return is waited for, so a jax function must
        return its arrays.
      rounds: counted calls of each; who goes first alternates.
      warmup: calls of each that are not counted.
      clock: `"wall"` compares elapsed seconds, `"cpu"` processor seconds (for peers that use
        another number of threads).
      peer_measures: whether `peer` returns its own (wall, processor) seconds instead, as one in
        another process must.
    """
    if clock not in ("wall", "cpu"):
        raise ValueError(f'clock must be "wall" or "cpu", got {clock!r}')
    contest = {
        "ours": functools.partial(measure, ours),
        "peer": peer if peer_measures else functools.partial(measure, peer),
    }
    for _ in range(warmup):
        for timed in contest.values():
            timed()
    times = {"ours": [], "peer": []}
    for turn in range(rounds):
        for who in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
            times[who].append(contest[who]())
    wall_ours, cpu_ours = np.transpose(times["ours"])
    wall_peer, cpu_peer = np.transpose(times["peer"])
    ratios = wall_peer / wall_ours if clock == "wall" else cpu_peer / cpu_ours
    return Row(
        name,
        peer_name,
        *(float(np.median(x)) for x in (wall_ours, wall_peer, cpu_ours, cpu_peer, ratios)),
        float(ratios.min()),
        float(ratios.max()),
        note,
    )


def measure(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of one call, its arrays waited for."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return time.perf_counter() - wall, time.process_time() - cpu


def format_table(title: str, rows: Iterable[Row]) -> str:
    """The rows as a Markdown table under the machine and the versions."""
    environment = describe_environment()
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items() if v)
    lines = [
        f"## {title}",
        f"{environment['platform']}, {environment['device']}, "
        f"{len(os.sched_getaffinity(0))} usable; python {environment['python']}, {versions}",
        "",
        "| what | peer | ours | peer's | speedup (min to max) | note |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.peer} | {format_seconds(row.ours_s)} | {format_seconds(row.peer_s)} "
        f"| {row.speedup:.2f}x ({row.low:.2f} to {row.high:.2f}) | {row.note} |"
        for row in rows
    ]
    return "\n".join(lines)


def format_seconds(seconds: float) -> str:
    """Seconds with three digits in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def publish(
    title: str, rows: Sequence[Row], claims: Sequence[Claim] = (), workdir: str | None = None
) -> None:
    """Prints table and claims; given a directory, leaves them in it, with the figures, as a run."""
    table = format_table(title, rows)
    print(table)
    for claim in claims:
        print(f"{claim.id} {claim.verdict}: {claim.measured} ({claim.detail})")
    if workdir:
        with Run(workdir, {"benchmark": Path(sys.argv[0]).stem}) as run:
            run.write_text("benchmark.md", table + "\n")
            run.write_json("benchmark.json", [row._asdict() for row in rows])
            run.write_claims(claims)


def parse_arguments(description: str, **extra: Any) -> argparse.Namespace:
    """The flags that every benchmark takes: `--workdir` and `--rounds`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workdir", help="keep the table and the claims in this directory")
    parser.add_argument("--rounds", type=int, default=7, help="counted calls of each side")
    for name, default in extra.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def keep_to_processors(count: int) -> None:
    """Runs this process on `count` processors; call it before a device is used.

    XLA makes as many threads as it may use processors when it starts.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
