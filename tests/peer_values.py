"""Comparisons with a peer, written once: live where it is installed, recorded elsewhere."""

import importlib.util
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--record-peers",
        action="store_true",
        help="write what the installed peers compute into the golden files of the tests run "
        "(in one process: -n0)",
    )


@pytest.fixture
def from_peer(request) -> Callable[..., dict[str, np.ndarray]]:
    """`from_peer(compute, *packages)`: what `compute()` returns, a dict of arrays.

    `compute` imports the packages, which are peers. Where all are installed it runs, and
    `golden/NAME_OF_TEST.npz` must agree with it (`rtol`, `atol`), so that no recording is stale;
    elsewhere the recording stands in for it. The file names the versions it was recorded with.
    """
    golden = Path(request.path).parent / "golden" / f"{request.function.__name__}.npz"
    callspec = getattr(request.node, "callspec", None)
    case = callspec.id if callspec else "only"

    def values(compute, *packages, rtol=1e-5, atol=1e-6):
        if not all(map(importlib.util.find_spec, packages)):
            return _recorded(golden, case)
        live = {name: np.asarray(value) for name, value in compute().items()}
        if request.config.getoption("--record-peers"):
            _record(golden, case, live, packages)
        recorded = _recorded(golden, case)
        assert recorded.keys() == live.keys(), f"{golden.name} is stale: --record-peers"
        for name, value in live.items():
            np.testing.assert_allclose(
                recorded[name], value, rtol, atol, err_msg=f"{golden.name} is stale: --record-peers"
            )
        return live

    return values


def _recorded(golden: Path, case: str) -> dict[str, np.ndarray]:
    assert golden.exists(), f"{golden} is missing: run with the peers installed and --record-peers"
    with np.load(golden) as file:
        prefix = f"{case}/"
        return {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}


def _record(golden: Path, case: str, live: dict[str, Any], packages: tuple[str, ...]) -> None:
    golden.parent.mkdir(exist_ok=True)
    before = dict(np.load(golden)) if golden.exists() else {}
    kept = {k: v for k, v in before.items() if not k.startswith(f"{case}/")}
    kept |= {f"{case}/{name}": value for name, value in live.items()}
    kept["versions"] = np.array([f"{name} {metadata.version(name)}" for name in packages])
    np.savez_compressed(golden, **dict(sorted(kept.items())))
