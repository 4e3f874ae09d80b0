"""What the studies make of results: phases, selections, verdicts over several models."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.runs import Run
from jaxlab.unlearn import experiment
from jaxlab.unlearn.answers import answer_nll
from jaxlab.unlearn.studies import (
    markov,
    random_features,
    tofu_bench,
    tofu_comparison,
    tofu_half,
    tofu_methods,
    tofu_quarter,
    tofu_relearning,
    tofu_search,
    tofu_sweeps,
)
from jaxlab.unlearn.tofu import load_tofu
from jaxlab.unlearn.tofu_metrics import SPLITS
from jaxlab.unlearn.types import LMBatch
from tests.unlearn import tiny

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
    monkeypatch.setattr(tofu_comparison, "retrained", lambda *arguments: None)

    def evaluation(forget, retain, questions):
        return SimpleNamespace(logs=lambda params: {"count": np.array(questions)})

    bench = SimpleNamespace(number=0, split=lambda percent: (None, None), evaluation=evaluation)
    with Run(tmp_path) as run:
        few, many = (
            tofu_comparison.scores(bench, run, None, None, 25, count) for count in (60, 200)
        )
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
    return tofu_comparison.Comparison(judged(), {}, paths)


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
    found = {"NPO+RT": npo, "GA": other}
    assert random_features._lowest_on(found) == "1 of 2"
    lower = {"forget": np.zeros((2, 2)), "retain": np.zeros((2, 2))}
    assert random_features._lowest_on(found | {"DPO halved+RT": lower}) == "1 of 2"


@pytest.mark.parametrize(
    ("npo", "simple", "verdict"),
    [
        (0.5, 0.2, "pass"),
        (0.5, -0.1, "pass"),
        (0.5, 0.3, "fail"),
        (-0.1, -0.2, "fail"),  # twice as much, but NPO forgets the memorised chain more
    ],
)
def test_memory_bias_needs_a_gap_of_npo(npo, simple, verdict):
    def chains(gap):  # the retain distance of 0.3 is half way
        ends = {"retain": 0.6, "forget1": 1.0, "forget2": 1.0 + 2 * gap}
        return {chain: np.array([[0.0, end]]) for chain, end in ends.items()}

    model = dict.fromkeys(markov.CHAINS, 0.1)
    paths = {"NPO 1": chains(npo), "SimNPO 4": chains(simple)}
    result = {"paths": paths, "original": model, "retrained": model}
    assert markov._memory_bias(SMALL, result).verdict == verdict


def test_a_wrong_reference_shows_in_the_weights_at_the_start():
    cfg = tiny.language_model(32, 32)
    known, other = (lm.init_params(jax.random.key(seed), cfg) for seed in (0, 1))
    tokens = np.random.default_rng(0).integers(0, 32, (8, 26)).astype(np.int32)
    lengths = np.array([3, 4, 6, 8, 11, 15, 20, 25])
    labels = np.where(np.arange(26) <= lengths[:, None], tokens, -100)
    rows = LMBatch(tokens, labels)
    speaker = SimpleNamespace(cfg=cfg)
    bench = SimpleNamespace(speaker=speaker, author_rows=rows)
    logs = {SPLITS["forget"]: {"avg_gt_loss": answer_nll(speaker, known, rows)}}
    scores = SimpleNamespace(logs=logs, evaluation=SimpleNamespace(sets={"forget": [None] * 8}))
    results = {name: {"logs": {"1": logs}} for name in ("NPO+RT", "SimNPO+RT")}
    found = tofu_comparison.Comparison(scores, results, {})

    def claim(reference):
        weights = tofu_methods._weights(bench, reference, np.arange(8), found)
        return tofu_methods._evenness_of_weights(weights)

    assert claim(known).verdict == "pass"
    assert "NPO+RT: start none (all equal)" in claim(known).detail
    assert claim(other).verdict == "fail"


def relearned(utility, control=0.01):
    """S7 of three models of NPO and two of SimNPO, with these utilities of NPO's."""
    found = {
        "retrained": {"nll": np.array([7.0]), "random": np.array([[0.0, control]])},
        "NPO+RT": {
            "nll": np.array([1.0, 1.4, 1.44]),
            "random": np.array([[0.3, 0.5], [0.2, 0.6], [0.2, 0.9]]),
        },
        "SimNPO+RT": {
            "nll": np.array([1.45, 2.0]),
            "random": np.array([[0.2, 0.5], [0.1, 0.1]]),
        },
    }
    utilities = {"NPO+RT": np.array(utility), "SimNPO+RT": np.array([0.74, 0.74])}
    return tofu_relearning._claim(SMALL, found, utilities)


def test_relearning_pairs_what_forgot_and_kept_alike():
    # The third of NPO's is nearest in NLL but has lost utility; SimNPO's second has no match.
    claim = relearned([0.74, 0.75, 0.6])
    assert claim.verdict == "pass"
    assert "in 1 of 1 pairs (gaps 0.100 to 0.100)" in claim.measured
    assert "1.45 / 0.740 with 1.40 / 0.750" in claim.detail
    assert relearned([0.74, 0.75, 0.6], control=0.06).verdict == "fail"


def test_relearning_without_a_pair_compares_nothing():
    claim = relearned([0.74, 0.6, 0.6])
    assert claim.measured.startswith("no two models match")


class FakeEvaluation:
    """Random logs in the official layout instead of a model's."""

    def __init__(self, forget, retain, questions):
        counts = {"forget": questions, "retain": 5, "real_authors": 3, "world_facts": 3}
        qa = load_tofu("retain_perturbed")[0]
        self.sets = {name: [qa] * count for name, count in counts.items()}
        self.rng = np.random.default_rng(0)

    def logs(self, params):
        found = {
            SPLITS[name]: {
                "avg_gt_loss": self.rng.random(len(rows)),
                "avg_paraphrased_loss": self.rng.random(len(rows)),
                "average_perturb_loss": self.rng.random((len(rows), 5)),
                "rougeL_recall": self.rng.random(len(rows)),
            }
            for name, rows in self.sets.items()
        }
        count = len(self.sets["forget"])
        return found | {"answers": np.array(["no"] * count), "repetition": np.full(count, 0.1)}

    def path_logs(self, path):
        return {str(i + 1): self.logs(None) for i in range(len(path["w"]))}


@pytest.fixture
def without_models(monkeypatch):
    """The studies with their plumbing, and neither training nor evaluation."""
    keys = []

    def unlearned(bench, params, forget, retain, recipe, key):
        keys.append((bench.number, tuple(jax.random.key_data(key).tolist())))
        return {"w": np.zeros(recipe.snapshots)}

    def nll(bench, params, rows):
        return np.linspace(0.1, 2, len(rows.tokens))

    one_model = {"w": np.zeros(())}
    studies = (
        tofu_comparison,
        tofu_methods,
        tofu_quarter,
        tofu_half,
        tofu_sweeps,
        tofu_relearning,
        tofu_search,
    )
    for module in studies:
        for name in ("original", "retrained", "finetuned"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *arguments: one_model)
        if hasattr(module, "unlearned"):
            monkeypatch.setattr(module, "unlearned", unlearned)
    monkeypatch.setattr(tofu_comparison, "answer_nll", nll)
    monkeypatch.setattr(tofu_relearning, "_nll", nll)
    monkeypatch.setattr(
        tofu_methods,
        "reference_logprobs",
        lambda apply_fn, params, rows, *, head: np.zeros(len(rows.tokens)),
    )
    path = SimpleNamespace(params={"w": np.zeros(3)})
    monkeypatch.setattr(tofu_relearning, "relearn", lambda *arguments, **settings: path)
    monkeypatch.setattr(tofu_bench.Bench, "evaluation", lambda self, *sizes: FakeEvaluation(*sizes))
    monkeypatch.setattr(experiment.simplicity, "measure", lambda config, run: [])
    return keys


def test_every_study_takes_every_model(without_models, tmp_path):
    config = dataclasses.replace(
        experiment.PRESETS["smoke"],
        tofu_authors=20,
        tofu_vocab=600,
        tofu_length=128,
        tofu_methods=tuple(tofu_comparison.METHODS),
        num_seeds=2,
        other_percents=(1.0, 50.0),
        parts=tuple(experiment.PARTS),
        quarter_questions=40,
    )
    with Run(tmp_path, config) as run:
        claims = experiment._tofu(config, run, tofu_bench.load_bench(config), None)
    rows = {claim.id: claim for claim in claims}
    assert {"N1-tofu", "N4", "N5", "S3", "N4-1", "N4-50", "N6", "N8"} <= rows.keys()
    assert {"S5", "S5b", "S5c", "S7", "S8"} <= rows.keys()
    for name in ("N1-tofu", "N5", "S5c"):
        assert "n=2" in rows[name].measured
    assert rows["N4-1"].verdict == rows["N4-50"].verdict == "reported"
    phases = {path.stem for path in (tmp_path / "results").iterdir()}
    assert {"tofu_10_NPO+RT_1", "tofu_50_KTO+RT_0", "tofu_half_GA+KL_0_1"} <= phases
    assert {"tofu_quarter_NPO+RT_1", "tofu_quarter_ends_1", "tofu_halves_1"} <= phases
    assert "tofu_1_NPO+RT_1" not in phases  # the first model alone forgets other shares
    assert "tofu_10_KTO+RT_1" not in phases  # no criterion names it: once is enough
    assert {number for number, _ in without_models} == {0, 1}
    by_model = [{key for number, key in without_models if number == i} for i in (0, 1)]
    assert not by_model[0] & by_model[1]


def test_a_search_tables_every_checkpoint(without_models, tmp_path):
    config = dataclasses.replace(
        experiment.PRESETS["smoke"],
        tofu_authors=4,
        tofu_vocab=600,
        tofu_length=128,
        search_percents=(10.0, 50.0),
        search_methods=("NPO+RT", "GA+RT"),
        search_cells=2,
    )
    with Run(tmp_path, config) as run:
        (claim,) = tofu_search.measure(config, run, tofu_bench.load_bench(config), None)
    table = (tmp_path / "artifacts" / "search.csv").read_text("utf-8").splitlines()
    rows = [dict(zip(table[0].split(","), line.split(","), strict=True)) for line in table[1:]]
    # Two methods with two cells: 8 epochs at 10% and 4 at 50%, every second one.
    assert [row["epoch"] for row in rows if row["percent"] == "10"] == list("2468") * 4
    assert [row["epoch"] for row in rows if row["percent"] == "50"] == list("24") * 4
    chosen = [(row["percent"], row["method"]) for row in rows if row["selected"] == "1"]
    assert len(chosen) == len(set(chosen)) <= 4
    assert claim.verdict == "reported"
    # One key for all cells of a size, so that settings are compared on the same batches.
    assert len(set(without_models)) == 2
