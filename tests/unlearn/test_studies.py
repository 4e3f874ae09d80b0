"""What the studies make of results: phases, selections, verdicts over several models."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxlab.runs import Run
from jaxlab.unlearn import experiment
from jaxlab.unlearn.studies import random_features, tofu_half, tofu_methods, tofu_quarter

SMALL = experiment.PRESETS["small"]


def judged(utility=0.8):
    report = SimpleNamespace(model_utility=utility, forget_quality=1e-9, ks_statistic=0.5)
    sets = {"forget": [None] * 80}
    return SimpleNamespace(
        report=lambda logs: report,
        logs={},
        retrained_logs={},
        evaluation=SimpleNamespace(sets=sets),
    )


def path(mu, fq=None, prob=None, ks=None):
    """Numbers along a path; the first are the original's."""
    count = len(mu)
    return {
        "mu": np.array(mu),
        "fq": np.array(fq or [1e-9] * count),
        "prob": np.array(prob or [0.9] * count),
        "ks": np.array(ks or [0.5] * count),
    }


def test_scores_of_other_questions_are_another_phase(tmp_path, monkeypatch):
    monkeypatch.setattr(tofu_methods, "retrained", lambda *arguments: None)

    def evaluation(forget, retain, questions):
        return SimpleNamespace(logs=lambda params: {"count": np.array(questions)})

    bench = SimpleNamespace(number=0, split=lambda percent: (None, None), evaluation=evaluation)
    with Run(tmp_path) as run:
        few, many = (tofu_methods.scores(bench, run, None, None, 25, count) for count in (60, 200))
    assert [int(found.logs["count"]) for found in (few, many)] == [60, 200]
    assert [int(found.retrained_logs["count"]) for found in (few, many)] == [60, 200]


def comparison(npo_fq, npo_mu, ga_mu=0.0):
    ends = {
        "GA": ([0.8, ga_mu], 1e-4),
        "GA+RT": ([0.8, 0.5], 1e-4),
        "IDK+RT": ([0.8, 0.7], 1e-6),
        "DPO+RT": ([0.8, 0.7], 1e-6),
        "NPO+RT": ([0.8, npo_mu], npo_fq),
        "SimNPO+RT": ([0.8, 0.79], 1e-3),
    }
    paths = {name: path(mu, fq=[1e-9, fq]) for name, (mu, fq) in ends.items()}
    return tofu_methods.Comparison(judged(), {}, paths)


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (comparison(2e-3, 0.75), "pass"),
        (comparison(5e-4, 0.75), "fail"),  # not ten times GA's
        (comparison(2e-3, 0.70), "fail"),  # utility lost
        (comparison(2e-3, 0.75, ga_mu=0.1), "fail"),  # GA keeps some
    ],
)
def test_balance_has_to_hold_on_every_model(second, verdict):
    claim = tofu_methods._balance(SMALL, [comparison(2e-3, 0.75), second], 10.0)
    assert claim.verdict == verdict
    assert "2 models" in claim.detail


def test_collapse_has_to_hold_on_every_model():
    models = [comparison(2e-3, 0.75), comparison(2e-3, 0.75, ga_mu=0.06)]
    assert tofu_methods._collapse(SMALL, models[:1], 10.0).verdict == "pass"
    claim = tofu_methods._collapse(SMALL, models, 10.0)
    assert claim.verdict == "fail"
    assert claim.measured.startswith("GA MU 0.030 ± ")


def test_best_quality_counts_only_where_utility_holds():
    found = comparison(2e-3, 0.75)
    best = tofu_methods._useful([found])
    assert best["NPO+RT"] == 2e-3
    assert best["GA+RT"] == 0


def test_half_has_to_hold_on_every_model():
    def model(share):
        forgotten = path([0.8, 0.8 * share], prob=[0.9, 0.005])
        kept = path([0.8, 0.8], prob=[0.9, 0.5])
        return judged(), {"NPO+RT 1": forgotten, "GA+RT 1": kept, "GA+KL 1": kept}

    claim = tofu_half._claim(SMALL, [model(0.9), model(0.86)])
    assert claim.verdict == "pass"
    assert "NPO+RT 0.90 0.86" in claim.measured
    assert "GA+RT never forgot" in claim.measured
    assert tofu_half._claim(SMALL, [model(0.9), model(0.8)]).verdict == "fail"


def test_quarter_takes_the_nearest_useful_checkpoint_of_every_model():
    near = path([0.8, 0.78, 0.5], ks=[0.45, 0.2, 0.1])
    far = path([0.8, 0.78, 0.5], ks=[0.45, 0.3, 0.1])
    useless = path([0.8, 0.5, 0.5], ks=[0.45, 0.2, 0.1])
    quarter = SimpleNamespace(judged=judged())

    def verdict(*models):
        paths = [{"NPO+RT": npo, "SimNPO+RT": near} for npo in models]
        return tofu_quarter._best(SMALL, [quarter] * len(models), paths).verdict

    assert verdict(near, near) == "pass"
    assert verdict(near, far) == "fail"
    assert verdict(useless) == "fail"


def test_seeds_on_which_npo_is_lowest_are_counted():
    npo = {"forget": np.array([[1.0, 0.1], [1.0, 0.5]]), "retain": np.zeros((2, 2))}
    other = {"forget": np.array([[1.0, 0.2], [1.0, 0.2]]), "retain": np.zeros((2, 2))}
    assert random_features._lowest_on({"NPO+RT": npo, "GA": other}) == "1 of 2"
