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
        "compare_autoprm": curve(3, (0.6, 0.8)),
        "compare_orm": curve(3, (0.6, 0.7)),
        "branch_autoprm": curve(1, (0.3, 0.5), (0.4, 0.6), (0.5, 0.7)),
        "branch_no_cgd": curve(1, (0.3, 0.2), (0.4, 0.35), (0.5, 0.9)),
        "strong_autoprm": curve(1, (0.8, 0.9)),
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
    votes = {name: np.full(4, share) for name, share in shares.items()}
    votes |= {"unparsed": 0.01, "ops": ops}
    return {
        "quality_cgd": {"auc": 0.99, "precision": 0.95, "f1": 0.9},
        "quality_compare": {"auc": 0.98, "precision": 0.9, "f1": 0.9},
        "quality_rollout": {"auc": 0.8, "precision": 0.6, "f1": 0.4},
        "plans": {
            "asked": asked,
            "realised": asked,
            "ends_right": np.ones((5, 4), bool),
            "all_right": np.array([1.0, 0.9, 0.7, 0.5, 0.3]),
            "own": 0.3,
            "gold": 0.5,
            "all_right_here": 0.5,
        },
        "sweep": {
            "greedy": np.array([0.2, 0.3, 0.4, 0.5, 0.5]),
            "budget": np.array([0.3, 0.4, 0.6, 0.7, 0.6]),
            "spent": np.array([12.0, 12.4, 12.5, 13.2, 11.5]),
        },
        "votes": votes,
        "strong_votes": votes,
        "grpo": {
            "final": np.array([0.3, 0.4]),
            "step": np.array([0.5, 0.6]),
            "informative_groups": np.array([0.8]),
        },
        "rephrased": {"final": 0.35, "step": 0.5},
        "speculation": {
            "rows": np.array([8, 8]),
            "cut": np.array([99, 13]),
            "right": np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool),
            "tokens": np.array([[100, 100, 100, 100], [40, 60, 40, 60]]),
        },
        "two_networks": {"own": 0.2, "gold": 0.45, "all_right": 0.4},
        "common_answer": 0.55,
        "provenance": {"same": True, "texts": 5},
    }


def one_of(curves):
    """The curves of the first seed."""
    return {name: {k: v[:1] for k, v in curve.items()} for name, curve in curves.items()}


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
    passed = {"A1", "A2", "A3", "A3'", "A4", "A5", "A7", "A8", "A9"}
    assert {row for row, verdict in found.items() if verdict == "pass"} == passed
    assert found["A6"] == found["A4-tampering"] == found["A10"] == "reported"
    assert found["P1"] == "not run"


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
        ("A9", ("compare_orm", "final"), np.tile((0.6, 0.81), (3, 1))),
    ],
)
def test_each_criterion_alone_fails_its_row(row, path, value):
    found = verdicts(SMALL, *change(path, value))
    assert [name for name, verdict in found.items() if verdict == "fail"] == [row]
    assert verdicts(SMOKE, *change(path, value))[row] == "reported"  # sizes without a criterion


def test_reading_gold_steps_fails_at_every_preset():
    seeds = [one_seed() | {"provenance": {"same": False, "texts": 5}}]
    assert verdicts(SMOKE, seeds, one_of(fixed_curves()))["A8"] == "fail"


def test_accepting_nothing_twice_shows_nothing():
    seeds = [one_seed() | {"provenance": {"same": True, "texts": 0}}]
    assert verdicts(SMOKE, seeds, one_of(fixed_curves()))["A8"] == "reported"


def test_an_arm_of_one_seed_is_compared_with_that_seed():
    curves = fixed_curves()
    curves["autoprm"]["final"] = np.array([[0.3, 0.40], [0.3, 0.55], [0.3, 0.55]])
    curves["prm_few_labels"] = curve(1, (0.3, 0.45))
    assert verdicts(SMALL, [one_seed() for _ in range(3)], curves)["A3'"] == "fail"


def test_gains_by_length_pair_the_same_problems():
    seed = one_seed()
    seed["votes"]["reranked"] = np.array([1, 1, 0, 1])
    seed["votes"]["one_step"] = np.array([1, 0, 0, 0])
    strong = {"ops": np.array([2, 2, 5, 5]), "sampled": np.full(4, 0.5)}
    strong |= {"reranked": np.array([1, 0, 1, 1]), "one_step": np.array([1, 0, 0, 0])}
    seeds, curves = [seed | {"strong_votes": strong}], one_of(fixed_curves())
    claims = judge_claims(SMALL, 0.99, seeds, curves)
    row = next(claim for claim in claims if claim.id == "A6")
    weak, strong = (part.split("; ") for part in row.measured.split(". Strong base: "))
    assert [part.split()[0] for part in weak] == ["2", "3", "4", "5"]
    assert [float(part.split()[2].rstrip(",")) for part in weak] == [0, 1, 0, 1]
    assert strong == ["2 operations 0 ± 0, n=2", "5 operations 1 ± 0, n=2"]
    assert "weak 0, n=1, strong 1.000" in row.detail


def test_two_networks_are_compared_seed_by_seed():
    claims = judge_claims(SMALL, 0.99, [one_seed() for _ in range(3)], fixed_curves())
    row = next(claim for claim in claims if claim.id == "A10")
    assert row.measured == "one minus two: own plan 0.1 ± 0, n=3, gold plan 0.05 ± 0, n=3"


def test_what_a_search_saves_stands_beside_what_it_loses():
    seeds = [one_seed() for _ in range(3)]
    row = next(c for c in judge_claims(SMALL, 0.99, seeds, fixed_curves()) if c.id == "A7")
    assert "against its own best of k (0.5 ± 0, n=3)" in row.measured
    early = "8 rows, halved from 13 tokens on, -0.25 ± 0, n=3 at 50% of the tokens"
    assert early in row.measured
    assert "tuned 0.3" in row.detail
    assert "difference 0.05" in row.detail
    for seed in seeds:
        del seed["speculation"]
    row = next(c for c in judge_claims(SMALL, 0.99, seeds, fixed_curves()) if c.id == "A7")
    assert "speculative rejection" not in row.measured
    assert "no search was given" in row.detail


def test_tampering_is_told_by_round():
    seeds = [one_seed() for _ in range(3)]
    rows = {claim.id: claim for claim in judge_claims(SMALL, 0.99, seeds, fixed_curves())}
    told = "without context verifier 0.500, 0.900, steps right 0.400, 0.350, final 0.300, 0.200"
    assert told in rows["A4-tampering"].detail
    assert "GRPO" in rows["A2"].detail
    assert "final 0.300, 0.400; step 0.500, 0.600; 80% of the groups" in rows["A2"].detail
