import json
import sys
from types import SimpleNamespace

import jax
import pytest

from jaxlab.runs import Run

CONFIG = {"eta": [1.0, 10.0]}


class Recorded:
    """Stands for the module wandb, which would talk to a server."""

    class Error(Exception):
        """As its base class of errors."""

    def __init__(self):
        self.started, self.metrics, self.rows, self.ended = [], [], [], []

    def init(self, **settings):
        if settings["project"] == "closed":
            raise self.Error("No API key configured.")
        self.started.append(settings)
        return SimpleNamespace(
            define_metric=lambda name, **settings: self.metrics.append((name, settings)),
            log=self.rows.append,
            finish=lambda exit_code: self.ended.append(exit_code),
        )


@pytest.fixture
def wandb(monkeypatch):
    module = Recorded()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_scalars_are_sent_too_and_a_run_goes_on(tmp_path, wandb):
    for step in (1, 2):
        with Run(tmp_path, CONFIG, wandb="stepsizes") as run:
            run.log(step, loss=0.5)
    assert run.metrics() == wandb.rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.5}]
    first, second = wandb.started
    assert first == second
    assert first["config"] == CONFIG
    assert wandb.metrics[0] == ("*", {"step_metric": "step"})
    assert wandb.ended == [0, 0]
    with (
        pytest.raises(FloatingPointError),
        Run(tmp_path, {}, overwrite=True, wandb="stepsizes"),
    ):
        raise FloatingPointError
    assert wandb.started[2]["id"] != first["id"]
    assert wandb.ended == [0, 0, 1]


def test_the_first_process_alone_sends(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Run(tmp_path, CONFIG, wandb="stepsizes") as run:
        run.log(1, loss=0.5)
    assert not wandb.started


def test_what_hinders_it_is_said(tmp_path, wandb, monkeypatch):
    with Run(tmp_path, CONFIG) as run:
        run.log(1, loss=0.5)
    with pytest.raises(ValueError, match="--wandb=closed: No API key configured"):
        Run(tmp_path, CONFIG, wandb="closed")
    for absent in (None, SimpleNamespace()):  # a folder of that name is a module of nothing
        monkeypatch.setitem(sys.modules, "wandb", absent)
        with pytest.raises(ImportError, match=r"--wandb needs wandb: pip install jaxlab\[wandb\]"):
            Run(tmp_path, {}, overwrite=True, wandb="stepsizes")
    with Run(tmp_path, CONFIG) as run:  # none holds the directory, or has removed anything
        assert run.metrics() == [{"step": 1, "loss": 0.5}]


def test_the_real_one_writes_what_it_will_send(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install jaxlab[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (2, 1):  # a run that goes on repeats steps
        with Run(tmp_path, CONFIG, wandb="stepsizes") as run:
            run.log(step, loss=0.5)
    files = list((tmp_path / "artifacts" / "wandb").glob("offline-run-*/*.wandb"))
    assert files
    assert all(file.stat().st_size for file in files)
    assert json.loads((tmp_path / "config.json").read_text())["config"] == CONFIG
