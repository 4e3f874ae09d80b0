import dataclasses

import numpy as np
import pytest

from jaxlab.icl import experiment
from jaxlab.icl.studies import real_tasks
from jaxlab.runs import Run
from tests.experiments import check_restart, check_rows

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    dim=2,
    num_context=4,
    bayes_dim=3,
    bayes_contexts=(5, 20),
    bayes_samples=300,
    gap_contexts=(5, 10),
    random_blocks=50,
    num_seeds=2,
    sampled_steps=1500,
    population_steps=1500,
    test_prompts=50_000,
    flow_starts=1,
    flow_steps=4000,
    flow_conditions=(1.0,),
    transformer_width=8,
    transformer_steps=20,
    task_steps=20,
)
ROWS = ["IL1", "IL2", "IL8", "IL2b", "IL4", "IL4b", "IL3", "IL5", "IL6", "IL7"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("icl")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts.pop("IL7") == "reported"
    verdicts.pop("IL4b")  # a share of draws is still on the plateau after so few steps
    verdicts.pop("IL2b")
    assert set(verdicts.values()) == {"pass"}
    assert len(list((workdir / "figures").glob("*.png"))) == 8


def test_a_restart_computes_only_what_is_missing_and_ends_the_same(finished):
    removed = ["flow"]
    check_restart(experiment, TINY, *finished, removed=removed, kept="gap")


def save_tasks(path, count, seed=0):
    rng = np.random.default_rng(seed)
    np.savez(path, X=rng.normal(size=(count, 8, 2)), y=rng.normal(size=(count, 8)))
    return dataclasses.replace(TINY, experiment="tasks", data=str(path))


def test_other_tasks_under_the_same_name_are_measured_anew(tmp_path, monkeypatch):
    measured = []

    def risks(config, tasks):
        measured.append(tasks)
        return {"Bayes": 0.5}

    monkeypatch.setattr(real_tasks, "_risks", risks)
    for seed, count in ((0, 1), (0, 1), (1, 2)):
        config = save_tasks(tmp_path / "tasks.npz", 4, seed)
        with Run(tmp_path / "run", config) as run:
            assert experiment.run(config, run) == []
        assert len(measured) == count


def test_one_task_must_be_held_out(tmp_path):
    config = save_tasks(tmp_path / "tasks.npz", 2)
    wanted = "at least 3 tasks, two for the prior and one held out, got 2"
    with Run(tmp_path / "run", config) as run, pytest.raises(ValueError, match=wanted):
        experiment.run(config, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, bayes"),
        ({"num_context": 0}, "num_context must be >= 1, got 0"),
    ],
)
def test_refuses(change, message, tmp_path):
    config = dataclasses.replace(TINY, **change)
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match=message):
        experiment.run(config, run)
