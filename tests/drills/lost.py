"""What two runs of one config must have in common, whatever happened on the way."""

import json
import re
from pathlib import Path

import numpy as np

# Whole words: "rate" also stands in "iterates", which must agree.
_CLOCK = set("second seconds time times wall ms hz throughput speed load".split())


def stored(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the finished phases, without those that a clock measured."""
    found = {}
    for file in sorted((workdir / "results").glob("*.npz")):
        with np.load(file) as arrays:
            for name in arrays.files:
                if _CLOCK.isdisjoint(re.split(r"[^a-z]+", f"{file.stem}/{name}".lower())):
                    found[f"{file.stem}/{name}"] = arrays[name]
    return found


def assert_same(one: Path, other: Path) -> None:
    """Both hold the same phases, equal to the bit."""
    expected, found = stored(one), stored(other)
    assert expected, f"{one} holds no finished phase"
    assert expected.keys() == found.keys()
    differ = [
        name
        for name, array in expected.items()
        if not np.array_equal(array, found[name], equal_nan=array.dtype.kind in "fc")
    ]
    assert not differ


def losses(workdir: Path) -> list[tuple[int, float, float]]:
    """(step, loss, gradient norm) of a training; of a step that was repeated, the later."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = {row["step"]: row for row in map(json.loads, lines)}
    return [(step, row["loss"], row["grad_norm"]) for step, row in sorted(rows.items())]
