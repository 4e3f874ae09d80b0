"""Verdicts from fixed measurements: all hold, and each criterion alone makes its row fail."""

import copy

import numpy as np
import pytest

from jaxlab.optim import convergence, generality, real_data
from jaxlab.optim.problems import Problems

ETAS = (1.0, 1e4)
# 1/gamma^2 is 4 and 6.25, and 1/(alpha gamma)^2 lies between 6.25 and 156.25.
PROBLEMS = Problems(
    X=np.zeros((2, 3, 2)),
    y=np.ones((2, 3)),
    weight=np.ones((2, 3)),
    margin=np.array([0.5, 0.4]),
    size=np.array([3, 3]),
)


def convergence_rows(num_steps=13, **changes):
    """The rows after `changes`, {variant or "perceptrons": {quantity: value}}."""
    variant = {
        "excess_average": np.full((2, 2), -0.1),
        "excess_best": np.full((2, 2), -0.2),
        "after_burn_in": np.full((2, 2), 0.9),
        "rises": np.array([[False, True], [False, True]]),
        "first_separated": np.full((2, 2), 3),
        "path": {"log_risk": np.zeros((2, num_steps + 1))},
    }
    measured = {name: copy.deepcopy(variant) for name in convergence.VARIANTS}
    measured["perceptrons"] = {"online": np.array([2, 3]), "batch": np.array([1, 2])}
    for name, values in changes.items():
        measured[name] |= values
    perceptrons = measured.pop("perceptrons")
    return {row.id: row for row in convergence.claims(PROBLEMS, ETAS, measured, perceptrons)}


def failed(rows):
    return [name for name, row in rows.items() if row.verdict == "fail"]


ONE_ABOVE = np.array([[-0.1, 1e-5], [-0.1, -0.1]])
ONE_UNKNOWN = np.array([[-0.1, -0.1], [np.nan, -0.1]])


def test_convergence_holds():
    rows = convergence_rows()
    assert {name: row.verdict for name, row in rows.items()} == dict.fromkeys(
        ("LS1", "LS2", "LS2b", "LS3", "LS4", "LS8"), "pass"
    )
    assert "moderate" not in rows["LS2"].detail


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("LS1", {"exponential": {"excess_average": ONE_ABOVE}}),
        ("LS1", {"exponential": {"excess_best": ONE_ABOVE}}),
        ("LS1", {"exponential": {"excess_average": ONE_UNKNOWN}}),
        ("LS2", {"logistic_risk": {"excess_average": ONE_ABOVE}}),
        ("LS2b", {"logistic_potential": {"excess_average": ONE_ABOVE}}),
        ("LS3", {"exponential": {"after_burn_in": np.array([[0.9, 0.9], [0.9, 0.49]])}}),
        ("LS4", {"exponential": {"rises": np.array([[True, True], [False, True]])}}),
        ("LS4", {"exponential": {"rises": np.array([[False, True], [False, False]])}}),
        ("LS8", {"exponential": {"first_separated": np.array([[3, 3], [3, 7]])}}),
        ("LS8", {"exponential": {"first_separated": np.array([[3, 3], [3, -1]])}}),
        ("LS8", {"perceptrons": {"online": np.array([5, 3])}}),
        ("LS8", {"perceptrons": {"online": np.array([2, -1])}}),
        ("LS8", {"perceptrons": {"batch": np.array([-1, 2])}}),
    ],
)
def test_each_criterion_of_convergence_alone_fails_its_row(row, changes):
    assert failed(convergence_rows(**changes)) == [row]


def test_a_run_shorter_than_the_burn_in_confirms_nothing():
    rows = convergence_rows(num_steps=6)
    for name in ("LS1", "LS2", "LS2b"):
        assert rows[name].verdict == "not run"
        assert "--max_steps" in rows[name].detail
    assert failed(convergence_rows(num_steps=6, exponential={"excess_best": ONE_ABOVE})) == ["LS1"]
    assert convergence_rows(num_steps=7)["LS1"].verdict == "pass"


def networks_row(num_steps=200, excess=-0.5, first=4):
    network = {
        "excess": np.full((2, 3, 3), -0.5),
        "first_separated": np.full((2, 3, 3), first),
        "bound": np.zeros((3, 3, num_steps)),
    }
    networks = {name: copy.deepcopy(network) for name in generality.NETWORKS}
    networks["leaky_softplus"]["excess"][1, 2, 0] = excess
    return generality.claims(None, PROBLEMS, networks)[1]


def test_networks_are_judged_where_their_burn_in_is_reached():
    assert networks_row().verdict == "pass"
    assert networks_row(excess=1e-5).verdict == "fail"
    unknown = networks_row(excess=np.nan)
    assert unknown.verdict == "fail"
    assert unknown.measured.endswith("no number in 1 of 2 sets")
    some = networks_row(num_steps=20)
    assert some.verdict == "pass"
    assert "within the 20 steps for 3 of 6 pairs" in some.detail
    none = networks_row(num_steps=6)
    assert none.verdict == "not run"
    assert "--network_steps" in none.detail
    assert networks_row(num_steps=6, excess=1e-5).verdict == "fail"


def test_networks_that_never_separate_are_counted():
    assert "0 of 36 runs separated;" in networks_row(first=-1).detail
    first = np.full((2, 3, 3), -1)
    first[0, 0] = 7
    assert "6 of 36 runs separated at 7 to 7 steps" in networks_row(first=first).detail


def reach(step):
    """A trajectory that has a separator and every target from `step` on."""
    there = np.arange(200) >= step
    return {"log_risk": np.where(there, -1000.0, 0.0), "min_margin": np.where(there, 0.05, 0.0)}


def real_rows(orders=(4, 5, 4), exponential=40, potential=60):
    result = {
        "margin": np.array(0.1),
        "orders": np.array(orders),
        "perceptron": {"updates": 5, "passes": 3, "converged": True},
        "trajectories": {
            "exponential": {"1000": reach(30), "10000": reach(exponential)},
            "potential": {"1000": reach(30), "10000": reach(potential)},
            "constant": {"4": reach(300)},
            "risk": {"1": reach(150)},
            "lbfgs": {"": reach(9)},
            "lbfgs_log": {"": reach(8)},
        },
    }
    rows = real_data.claims({"iris": result}, (1e3, 1e4), 3000)
    return {row.id: row for row in rows}


def test_real_data_holds():
    rows = real_rows()
    assert failed(rows) == []
    assert "constant 4: -/-/-/-/-, risk eta 1: 150/150/150/150/150" in rows["LS11"].detail
    assert "L-BFGS on ln L, in evaluations: 8/8/8/8/8" in rows["LS11"].detail
    assert "fewer" not in rows["LS11"].detail
    assert "never" not in rows["LS12"].measured


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("LS11", {"exponential": 101}),
        ("LS11", {"potential": 500}),
        ("LS12", {"orders": (4, 5, 101)}),
        ("LS12", {"orders": (4, -1, 4)}),
    ],
)
def test_each_criterion_of_real_data_alone_fails_its_row(row, changes):
    assert failed(real_rows(**changes)) == [row]


def test_orders_that_never_separate_are_counted_apart():
    assert real_rows(orders=(4, -1, 4))["LS12"].measured == "iris 4 ± 0, n=2 (1 of 3 never) of 100"
    assert real_rows(orders=(-1, -1))["LS12"].measured == "iris none (2 of 2 never) of 100"
