"""Verdicts from fixed measurements: all hold, and each criterion alone makes its row fail."""

import copy

import numpy as np
import pytest

from jaxlab import prm
from jaxlab.prm.claims import judge_claims
from jaxlab.prm.compact import EPSILONS

SMALL, SMOKE = (prm.AutoPRMConfig.preset(name) for name in ("small", "smoke"))
ROWS = ["A1", "A2", "A3", "A3'", "A4", "A4-tampering", "A5", "A6", "A7", "A8", "A9", "A10", "P1"]


def curve(seeds, final, step=(0.5, 0.7), reward=(0.6, 0.8)):
    """One round; every seed measures the same."""
    rows = {"final": final, "step": step, "reward": reward}
    counts = dict.fromkeys(("drawn_tokens", "accepted_tokens"), (100.0,))
    counts["step_precision"] = (0.9,)
    return {name: np.tile(values, (seeds, 1)) for name, values in (rows | counts).items()}


def fixed_curves():
    return {
        "autoprm": curve(3, (0.3, 0.5)),
        "orm": curve(3, (0.3, 0.4)),
        "sft_continued": curve(3, (0.3, 0.45)),
        "autoprm_no_cgd": curve(3, (0.2, 0.4)),
        "prm_few_labels": curve(1, (0.3, 0.45)),
        "rollout_labels": curve(1, (0.3, 0.35)),
        "oracle": curve(1, (0.3, 0.6)),
    }


def one_seed():
    asked = np.tile(np.array(EPSILONS)[:, None], (1, 4))
    ops = np.array([2, 3, 4, 5])
    shares = {
        "sampled": 0.4,
        "majority": 0.5,
        "best_min": 0.6,
        "best_prod": 0.6,
        "weighted": 0.6,
        "reranked": 0.7,
        "passed": 0.9,
        "one_step": 0.25,
    }
    return {
        "quality_cgd": {"auc": 0.99, "precision": 0.95, "f1": 0.9},
        "quality_rollout": {"auc": 0.8, "precision": 0.6, "f1": 0.4},
        "plans": {
            "asked": asked,
            "realised": asked,
            "ends_right": np.ones((5, 4), bool),
            "all_right": np.array([1.0, 0.9, 0.7, 0.5, 0.3]),
            "own": 0.3,
            "gold": 0.5,
        },
        "sweep": {
            "greedy": np.array([0.2, 0.3, 0.4, 0.5, 0.5]),
            "budget": np.array([0.3, 0.4, 0.6, 0.7, 0.6]),
        },
        "votes": {name: np.full(4, share) for name, share in shares.items()}
        | {"unparsed": 0.01, "ops": ops},
        "provenance": True,
    }


def verdicts(config, seeds, curves):
    return {claim.id: claim.verdict for claim in judge_claims(config, 0.99, seeds, curves)}


def change(path, value):
    """The fixed measurements with one of them replaced in every seed."""
    seeds, curves = [one_seed() for _ in range(3)], fixed_curves()
    *route, last = path
    for part in [curves] if route[0] in curves else seeds:
        for name in route:
            part = part[name]
        part[last] = copy.deepcopy(value)
    return seeds, curves


def test_all_criteria_met():
    found = verdicts(SMALL, [one_seed() for _ in range(3)], fixed_curves())
    assert list(found) == ROWS
    passed = {"A1", "A2", "A3", "A3'", "A4", "A5", "A7", "A8"}
    assert {row for row, verdict in found.items() if verdict == "pass"} == passed
    assert found["A6"] == found["A4-tampering"] == "reported"


@pytest.mark.parametrize(
    ("row", "path", "value"),
    [
        ("A1", ("plans", "realised"), np.tile(np.array(EPSILONS[::-1])[:, None], (1, 4))),
        ("A1", ("plans", "realised"), np.tile(np.array(EPSILONS)[:, None] / 2, (1, 4))),
        ("A1", ("plans", "ends_right"), np.zeros((5, 4), bool)),
        ("A1", ("plans", "all_right"), np.array([1.0, 0.74, 0.7, 0.5, 0.3])),
        ("A2", ("autoprm", "final"), np.tile((0.45, 0.5), (3, 1))),
        ("A2", ("autoprm", "step"), np.tile((0.7, 0.7), (3, 1))),
        ("A2", ("sft_continued", "final"), np.tile((0.3, 0.51), (3, 1))),
        ("A3", ("orm", "final"), np.tile((0.3, 0.49), (3, 1))),
        ("A3'", ("prm_few_labels", "final"), np.array([[0.3, 0.53]])),
        ("A4", ("autoprm_no_cgd", "final"), np.tile((0.3, 0.43), (3, 1))),
        ("A5", ("sweep", "budget"), np.array([0.3, 0.4, 0.6, 0.7, 0.8])),
        ("A5", ("sweep", "budget"), np.array([0.65, 0.4, 0.6, 0.7, 0.6])),
        ("A5", ("sweep", "greedy"), np.array([0.45, 0.3, 0.4, 0.5, 0.5])),
        ("A7", ("votes", "majority"), np.full(4, 0.41)),
        ("A7", ("votes", "best_prod"), np.full(4, 0.53)),
    ],
)
def test_each_criterion_alone_fails_its_row(row, path, value):
    found = verdicts(SMALL, *change(path, value))
    assert [name for name, verdict in found.items() if verdict == "fail"] == [row]
    assert verdicts(SMOKE, *change(path, value))[row] == "reported"  # sizes without a criterion


def test_reading_gold_steps_fails_at_every_preset():
    seeds = [one_seed() | {"provenance": False}]
    assert verdicts(SMOKE, seeds, fixed_curves())["A8"] == "fail"


def test_an_arm_of_one_seed_is_compared_with_that_seed():
    curves = fixed_curves()
    curves["autoprm"]["final"] = np.array([[0.3, 0.40], [0.3, 0.55], [0.3, 0.55]])
    curves["prm_few_labels"] = curve(1, (0.3, 0.45))
    assert verdicts(SMALL, [one_seed()], curves)["A3'"] == "fail"


def test_gains_by_length_pair_the_same_problems():
    seed = one_seed()
    seed["votes"]["reranked"] = np.array([1, 1, 0, 1])
    seed["votes"]["one_step"] = np.array([1, 0, 0, 0])
    claims = {c.id: c for c in judge_claims(SMALL, 0.99, [seed], fixed_curves())}
    lengths = claims["A6"].measured.split("; ")
    assert [part.split()[0] for part in lengths] == ["2", "3", "4", "5"]
    assert [float(part.split()[2].rstrip(",")) for part in lengths] == [0, 1, 0, 1]
