import dataclasses
import sys

import numpy as np
import pytest

from jaxlab.optim import convergence, experiment
from jaxlab.runs import Run
from tests.experiments import check_rows

pytest.importorskip("sklearn")

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    eta=(1.0, 1e3, 1e4),
    num_sets=3,
    dims=(5,),
    margins=(0.15, 0.3),
    general_sets=2,
    network_steps=120,
    hard_dims=(4, 8),
    hard_losses=("exponential", "logistic"),
    real_sets=("iris",),
    max_steps=120,
)
ROWS = ["LS1", "LS2", "LS2b", *(f"LS{n}" for n in range(3, 13))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tiny")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts.pop("LS2") in ("pass", "fail")  # as measured: it may fail
    assert set(verdicts.values()) <= {"pass"}


def test_figures_and_tables_are_written(finished):
    workdir, _ = finished
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert drawn == {
        "burn_in",
        "imbalance",
        "losses",
        "lower_bounds",
        "margins",
        "peers",
        "risk",
        "stepsizes",
        "two_layer",
    }
    assert "L-BFGS" in (workdir / "artifacts" / "real_data.md").read_text()
    with Run(workdir, TINY) as run:
        assert "exponential/eta_10000/log_risk" in run.metrics()[0]


def test_a_restarted_run_reads_its_phases_and_ends_the_same(finished, monkeypatch):
    workdir, claims = finished

    def never(*_, **__):
        raise AssertionError("a finished phase ran again")

    monkeypatch.setattr(convergence, "measure", never)
    logged = (workdir / "metrics.jsonl").read_bytes()
    with Run(workdir, TINY) as run:
        assert experiment.run(TINY, run) == claims
    assert (workdir / "metrics.jsonl").read_bytes() == logged


def test_one_part_gives_its_rows(tmp_path):
    config = dataclasses.replace(TINY, experiment="lower_bounds")
    with Run(tmp_path, config) as run:
        claims = experiment.run(config, run)
    assert [claim.id for claim in claims] == ["LS5", "LS6", "LS7"]
    assert {claim.verdict for claim in claims} == {"pass"}


def test_one_loss_alone_gives_every_row_but_the_one_that_needs_both(tmp_path):
    config = dataclasses.replace(TINY, experiment="lower_bounds", hard_losses=("exponential",))
    with Run(tmp_path, config) as run:
        verdicts = {claim.id: claim.verdict for claim in experiment.run(config, run)}
    assert verdicts == {"LS5": "pass", "LS6": "pass", "LS7": "not run"}


def _save(path, X, y):
    np.savez(path, images=X, y=y)
    return dataclasses.replace(TINY, data=str(path), x_key="images")


def test_own_data(tmp_path, blobs, monkeypatch):
    X, y = blobs
    labels = np.where(y > 0, 7, np.arange(len(y)) % 3)
    config = _save(tmp_path / "own.npz", X, labels)
    config = dataclasses.replace(config, experiment="real", positive_class="7")
    with Run(tmp_path / "run", config) as run:
        claims = experiment.run(config, run)
    assert [claim.verdict for claim in claims] == ["pass", "pass"]
    assert "own.npz" in claims[0].measured

    def anew(*_):
        raise AssertionError("measured anew")

    monkeypatch.setattr(experiment.real_data, "measure", anew)
    with Run(tmp_path / "run", config) as run:
        assert experiment.run(config, run) == claims
        _save(tmp_path / "own.npz", 2 * X, labels)
        with pytest.raises(AssertionError, match="measured anew"):
            experiment.run(config, run)


def test_without_scikit_learn_its_rows_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    config = dataclasses.replace(TINY, experiment="real")
    with Run(tmp_path, config) as run:
        claims = experiment.run(config, run)
    assert [(claim.id, claim.verdict) for claim in claims] == [
        ("LS11", "not run"),
        ("LS12", "not run"),
    ]
    assert "pip install 'jaxlab[optim]'" in claims[0].detail


def test_inseparable_data_is_said_plainly(tmp_path, rng, capsys):
    config = _save(tmp_path / "own.npz", rng.normal(size=(60, 2)), rng.integers(0, 2, 60))
    with Run(tmp_path / "run", config) as run:
        claims = experiment.run(config, run)
    assert "not linearly separable: the theory does not apply" in capsys.readouterr().out
    assert [claim.id for claim in claims] == ROWS
    for claim in claims:
        generated = claim.id in ("LS5", "LS6", "LS7")
        assert claim.verdict == ("pass" if generated else "not run")
        assert generated or "theory does not apply" in claim.detail


def test_libsvm_files_and_label_errors(tmp_path):
    path = tmp_path / "own.svm"
    path.write_text("1 1:1\n2 1:-1\n3 2:1\n")
    config = dataclasses.replace(TINY, data=str(path), experiment="real")
    wanted = r"3 labels \(1.0, 2.0, 3.0\).*--positive_class"
    with Run(tmp_path / "a", config) as run, pytest.raises(ValueError, match=wanted):
        experiment.run(config, run)
    config = dataclasses.replace(config, positive_class="9")
    with Run(tmp_path / "b", config) as run, pytest.raises(ValueError, match="no label '9'"):
        experiment.run(config, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": (1.0, -2.0)}, "eta must be positive"),
        ({"eta": ()}, "eta is empty"),
        ({"real_sets": ()}, "real_sets is empty"),
        ({"dims": ()}, "dims is empty"),
        ({"hard_losses": ("hinge",)}, r"loss must be one of .* got 'hinge'"),
        ({"real_sets": ("mnist",)}, r"real_sets must be of iris, .* got mnist"),
        ({"experiment": "other"}, "experiment must be one of all, convergence"),
        ({"network_width": 5}, "network_width must be even and >= 2, got 5"),
        ({"num_sets": 0}, "num_sets must be >= 1, got 0"),
        ({"num_orders": 0}, "num_orders must be >= 1, got 0"),
        ({"max_steps": 0}, "max_steps must be >= 1, got 0"),
    ],
)
def test_bad_settings(change, message, tmp_path):
    config = dataclasses.replace(TINY, **change)
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match=message):
        experiment.run(config, run)


def test_presets_name_real_data_that_exists():
    for preset in experiment.PRESETS.values():
        assert set(preset.real_sets) <= set(experiment.REAL_SETS)
