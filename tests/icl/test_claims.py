"""Verdicts from fixed measurements: all hold, and each criterion alone makes its row fail."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from jaxlab.icl import experiment
from jaxlab.icl.studies import trained_blocks, transformers

SMALL, PAPER = (experiment.PRESETS[name] for name in ("small", "paper"))


def rows_of(study, monkeypatch, config, phases):
    """The rows of a study whose phases have been computed, by id; nothing is drawn."""
    monkeypatch.setattr(study, "figures", mock.Mock())
    run = mock.Mock(**{"once.side_effect": lambda name, _: phases[name]})
    return {row.id: row for row in study.measure(config, run)}


def trained(**changes):
    """Phases of trained blocks after `changes`, {phase: {quantity: value}}."""
    phases = {
        "population_lsa": {"risk": [6.76, 6.75]},
        "population_ltb": {
            "risk": [2.17, 2.17],
            "distance": [1e-5, 1e-4],
            "projection_distance": [1e-6, 1e-6],
        },
        "sampled_lsa": {"risk": [6.78, 6.77], "loss": [6.8, 6.77], "loss_error": [0.01, 0.01]},
        "sampled_ltb": {"risk": [2.18, 2.17], "loss": [2.18, 2.17]},
        "levels": {"lsa": 6.75, "gd_beta": 2.17},
    }
    return {
        phase: {name: np.array(value) for name, value in (values | changes.get(phase, {})).items()}
        for phase, values in phases.items()
    }


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (None, {}),
        ("IL2b", {"population_lsa": {"risk": [6.76, 6.83]}}),
        ("IL2b", {"population_lsa": {"risk": [6.75, 6.7499]}}),
        ("IL2b", {"sampled_lsa": {"risk": [6.85, 6.77], "loss": [6.85, 6.77]}}),
        ("IL2b", {"sampled_lsa": {"loss": [6.83, 6.77]}}),
        ("IL4", {"population_ltb": {"distance": [1e-5, 1.1e-3]}}),
        ("IL4b", {"sampled_ltb": {"risk": [2.17, 2.2]}}),
    ],
)
def test_trained_blocks(row, changes, monkeypatch):
    rows = rows_of(trained_blocks, monkeypatch, SMALL, trained(**changes))
    assert list(rows) == ["IL2b", "IL4", "IL4b"]
    for name, claim in rows.items():
        assert claim.verdict == ("fail" if name == row else "pass")


def transformer_row(monkeypatch, config=SMALL, plain_far=5.65, plain_zero=5.3):
    """First and last query's losses; the ideal first one is 5.25."""
    losses = {
        "transformer_mean0_mlp": [5.3, 2.0],
        "transformer_mean0_plain": [plain_zero, 2.5],
        "transformer_mean10_mlp": [5.35, 4.0],
        "transformer_mean10_plain": [plain_far, 7.5],
    }
    phases = {name: {"loss": np.tile(loss, (3, 1))} for name, loss in losses.items()}
    return rows_of(transformers, monkeypatch, config, phases)["IL7"]


def test_transformers(monkeypatch):
    row = transformer_row(monkeypatch)
    assert row.verdict == "pass"
    assert "(2.00 times with MLP, 3.00 without)" in row.detail
    assert transformer_row(monkeypatch, plain_far=5.5).verdict == "fail"
    assert transformer_row(monkeypatch, plain_zero=5.7).verdict == "fail"


@pytest.mark.parametrize("change", [{"transformer_seeds": 2}, {"transformer_judged": False}])
@pytest.mark.parametrize("plain_far", [5.5, 5.65])
def test_few_seeds_or_steps_are_not_judged(change, plain_far, monkeypatch):
    config = dataclasses.replace(SMALL, **change)
    assert transformer_row(monkeypatch, config, plain_far).verdict == "reported"


def test_what_differs_from_the_sizes_of_the_literature_is_told(monkeypatch):
    assert "no curriculum" in transformer_row(monkeypatch, PAPER).detail
    assert "curriculum" not in transformer_row(monkeypatch).detail
