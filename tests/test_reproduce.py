import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A registry of three toy systems beside the real script, which is copied to run on them.
TOY = """
    import dataclasses, types
    from jaxlab.runs import Claim, launch, option

    @dataclasses.dataclass(frozen=True)
    class Config:
        seed: int = option(0, "seed")

    def run(config, run):
        {body}
        return run.write_claims(
            [Claim("T1", "s", "", "1", "fail"), Claim("T2", "s", "", "1", "pass")]
        )

    presets = {{"smoke": Config(), "small": Config()}}
    launch("{name}", types.SimpleNamespace(PRESETS=presets, run=run))
"""


@pytest.fixture
def reproduce(tmp_path):
    source = (ROOT / "scripts" / "reproduce.py").read_text("utf-8")
    start, end = source.index("SYSTEMS = {"), source.index("}\n", source.index("SYSTEMS = {"))
    registry = 'SYSTEMS = {"good": "T1 T2", "crash": "T1", "short": "T1 T2 T3"'
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "reproduce.py").write_text(source[:start] + registry + source[end:])
    for name in ("good", "crash", "short"):
        body = 'raise RuntimeError("boom")' if name == "crash" else "pass"
        text = textwrap.dedent(TOY).format(name=name, body=body)
        (scripts / f"{name}.py").write_text(text)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(scripts / "reproduce.py"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    return run


def test_a_crash_is_shown_and_the_others_run(reproduce, tmp_path):
    result = reproduce("--jobs=2", "--workdir=out")
    assert result.returncode == 1
    assert "1 of 3 systems crashed, 1 incomplete" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "RuntimeError: boom" in page
    assert "rows missing from claims.json: T3" in page
    assert "1 crashed" in page
    assert "1 incomplete" in page
    for name in ("good", "crash", "short"):
        assert page.count(f'id="{name}"') == 1
    assert page.count("It ended without claims") == 1
    claims = json.loads((tmp_path / "out" / "good" / "claims.json").read_text())
    assert [claim["id"] for claim in claims] == ["T1", "T2"]


def test_a_failed_claim_counts_only_when_strict(reproduce):
    result = reproduce("--systems=good", "--workdir=out", "--seed=3")
    assert result.returncode == 0, result.stderr
    assert "1 pass, 1 fail" in result.stdout
    assert reproduce("--systems=good", "--workdir=out", "--seed=3", "--strict").returncode == 1


def test_an_unknown_system_is_named(reproduce):
    result = reproduce("--systems=bad")
    assert result.returncode == 1
    assert "unknown systems bad; there are good, crash, short" in result.stdout + result.stderr


@pytest.fixture(scope="module")  # a second import would define its flags again
def script():
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "scripts" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_registered_system_has_its_script(script):
    for name in script.SYSTEMS:
        assert (ROOT / "scripts" / f"{name}.py").exists()
    assert {*script.ALONE, *script.LONG, *script.COMPILED_IN_FULL} <= script.SYSTEMS.keys()


def test_what_mostly_compiles_does_so_quickly_and_the_users_flags_win(script, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    monkeypatch.setattr(script, "quick_compiler_flags", lambda: "--quick")
    assert script._environment("lm", "smoke", 1)["XLA_FLAGS"] == "--quick --mine"
    assert script._environment("lm", "small", 1)["XLA_FLAGS"] == "--mine"
    assert script._environment("two_hop_reasoning", "smoke", 1)["XLA_FLAGS"] == "--mine"


def test_systems_side_by_side_share_the_processors(script, monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(script, "processor_count", lambda: 8)
    assert [script._environment("lm", "small", jobs)["NPROC"] for jobs in (1, 2, 3, 16)] == [
        *("8", "4", "2", "1")
    ]
    assert "NPROC" not in script._environment("spreeze", "small", 2)
    monkeypatch.setenv("NPROC", "3")
    assert script._environment("lm", "small", 2)["NPROC"] == "3"
