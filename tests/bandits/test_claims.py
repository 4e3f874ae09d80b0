"""Verdicts from fixed measurements: all hold, and each criterion alone makes its row fail."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from jaxlab.bandits import experiment
from jaxlab.bandits.studies import coverage, need, one_good_arm, pendulum_log

SMALL = experiment.PRESETS["small"]


def rows_of(study, measure, monkeypatch, config=SMALL, **phases):
    """The rows of a study whose phases have been computed; nothing is drawn."""
    monkeypatch.setattr(study, "figures", mock.Mock())
    run = mock.Mock(**{"once.side_effect": lambda name, _: phases[name]})
    return measure(config, run)


def minimax(changed=None, **rates):
    case = {"union": 1.2, "joint": 1.0, "lcb": 0.5, "greedy": 0.5}
    result = {
        name: {method: np.full(3, rate) for method, rate in case.items()}
        for name in one_good_arm.CASES
    }
    if changed:
        result[changed] |= {method: np.array(rate) for method, rate in rates.items()}
    return result


EQUAL, UNEQUAL = "2 arms, equal counts", "2 arms, C* = 5"


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("pass", {}),
        ("pass", {"changed": UNEQUAL, "joint": [3.0, 3.0, 3.0]}),
        ("fail", {"changed": EQUAL, "joint": [3.0, 3.0, 3.0]}),
        ("fail", {"changed": UNEQUAL, "joint": [1.0, 1.0, 1.2]}),
        ("fail", {"changed": EQUAL, "union": [1.0, 1.2, 1.2]}),
    ],
)
def test_minimax(verdict, changes, monkeypatch):
    (row,) = rows_of(
        one_good_arm, one_good_arm.measure_minimax, monkeypatch, minimax=minimax(**changes)
    )
    assert (row.id, row.verdict) == ("C4", verdict)


@pytest.mark.parametrize(
    ("num_arms", "max_count", "reached", "verdict"),
    [
        (4000, 20, 13, "pass"),
        (4000, 20, 10, "pass"),
        (4000, 20, 9, "fail"),
        (4000, 20, None, "pass"),
        (4000, 5, 3, "fail"),
        (4000, 5, None, "reported"),  # five times the data is too little, more is not known
        (4000, 8, None, "reported"),
        (4000, 9, None, "pass"),
        (3999, 20, 13, "reported"),
        (3999, 20, 9, "reported"),
    ],
)
def test_need(num_arms, max_count, reached, verdict, monkeypatch):
    counts = np.arange(1, max_count + 1)
    lcb = np.where(counts >= (reached or np.inf), 0.7, 0.1)
    certificate = {"joint": np.full((2, max_count), 0.6), "lcb": np.tile(lcb, (2, 1))}
    result = {"counts": counts, "certificate": certificate, "value": certificate}
    config = dataclasses.replace(SMALL, num_arms=num_arms, max_count=max_count)
    (row,) = rows_of(need, need.measure, monkeypatch, config, need=result)
    assert (row.id, row.verdict) == ("C5", verdict)
    said = f"{reached} times" if reached else f"more than {max_count} times"
    assert said in row.measured


@pytest.mark.parametrize(
    ("verdict", "joint", "lcb", "uniform"),
    [
        ("pass", (-330, -340), (-600, -1100), -600),
        ("fail", (-330, -340), (-600, -1100), -400),
        ("fail", (-330, -340), (-100, -700), -600),
        ("fail", (-330, -340), (-600, -600), -600),
    ],
)
def test_selection(verdict, joint, lcb, uniform):
    shape = 2, len(pendulum_log.COUNTS)
    value = {"joint": np.full(shape, -200.0), "lcb": np.full(shape, -200.0)}
    value["joint"][:, 0], value["lcb"][:, 0] = joint, lcb
    value["union"] = value["joint"]
    certificate = {mode: np.full(shape, -500.0) for mode in ("joint", "union")}
    result = {"value": value, "certificate": certificate, "uniform": uniform}
    row = pendulum_log._selection_claim(SMALL, result)
    assert (row.id, row.verdict) == ("C6", verdict)


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("pass", {}),
        ("fail", {"event": {"joint": [0.05, 0.06, 0.055]}}),
        ("fail", {"event": {"joint": [0.2, 0.2, 0.2]}}),
        ("fail", {"event": {"union": [0.2, 0.2, 0.2]}}),
        ("pass", {"event": {"union": [0.05, 0.17, 0.11]}}),  # above delta by less than its error
        ("fail", {"violated": {"joint": [0.3, 0.2, 0.2]}}),
        ("fail", {"violated": {"union": [0.3, 0.2, 0.2]}}),
    ],
)
def test_coverage(verdict, changes, monkeypatch):
    result = {
        "event": {"joint": [0.09, 0.1, 0.095], "union": [0.02, 0.01, 0.02]},
        "violated": {"joint": [0.01, 0.0, 0.02], "union": [0.0, 0.0, 0.0]},
    }
    result = {
        name: {mode: np.array(rates) for mode, rates in (modes | changes.get(name, {})).items()}
        for name, modes in result.items()
    }
    (row,) = rows_of(coverage, coverage.measure, monkeypatch, coverage=result)
    assert (row.id, row.verdict) == ("C7", verdict)


@pytest.mark.parametrize(
    ("best", "worst", "verdict", "grows"),
    [
        (0.99, [2.8, 4.7, 8.9], "pass", True),
        (0.99, [4.7, 2.8, 8.9], "pass", False),
        (0.9, [2.8, 4.7, 8.9], "fail", True),
    ],
)
def test_many_bad_arms(best, worst, verdict, grows, monkeypatch):
    value = {"joint": 0.6, "lcb": 1.0, "best": best}
    junk = {
        "value": {name: np.full((2, 3), share) for name, share in value.items()},
        "worst": {"joint": np.array(worst), "best": np.array([1.2, 1.5, 1.9])},
    }
    (row,) = rows_of(one_good_arm, one_good_arm.measure_junk, monkeypatch, junk=junk)
    assert (row.id, row.verdict) == ("C10", verdict)
    assert ("(it grows)" in row.detail) == grows
