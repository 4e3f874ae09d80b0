import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxlab import lm, unlearn
from jaxlab.runs import Run
from jaxlab.unlearn import answers, experiment
from jaxlab.unlearn.studies import checkpoints, tofu_search
from tests.experiments import check_restart, check_rows
from tests.unlearn import tiny
from tests.unlearn.test_muse import write_folder
from tests.unlearn.tiny import tree_close

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    divergence_steps=400,
    fit_steps=100,
    feature_steps=80,
    beta_steps=80,
    chain_sequences=200,
    chain_width=16,
    chain_epochs=1,
    tofu_authors=2,
    tofu_epochs=2,
    tofu_general_rows=4,
    tofu_vocab=600,
    tofu_width=16,
    tofu_length=128,
    tofu_questions=4,
    tofu_general=2,
    tofu_answer_tokens=4,
    step_rounds=2,
    epochs=2,
)
ROWS = ["N2", "N1", "N3", "N7", "S1", "S2", "S4", "N1-tofu", "N4", "N5", "S3"]
LEFT_OUT = ["S5", "S5b", "S5c", "N6", "S7", "N8", "S8", "S6"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unlearn")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


@pytest.mark.slow
def test_every_row_is_there(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS + LEFT_OUT)
    assert {verdicts[row] for row in LEFT_OUT} == {"not run"}
    for row in ("N1", "N3", "S1", "S2", "N4", "N5"):
        assert verdicts[row] == "reported"  # the criteria are for trained models
    assert len(list((workdir / "figures").glob("*.png"))) == 7
    assert "- original: " in (workdir / "artifacts" / "answers.md").read_text("utf-8")


@pytest.mark.slow
def test_a_restart_of_everything_ends_the_same(finished):
    workdir, claims = finished
    removed = ["random_features_1", "markov_retrained", "tofu_10_NPO+RT_0"]
    check_restart(experiment, TINY, workdir, claims, removed=removed, kept="markov_length")


@pytest.mark.parametrize("name", ["divergence", "random_features"])
def test_a_restart_computes_only_what_is_missing(name, tmp_path):
    claims = run_with(tmp_path, experiment=name)
    assert {claim.id for claim in claims} <= {"N1", "N2", "N3", "N7"}
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    gone = (
        tmp_path / "results" / {"divergence": "divergence", "random_features": "beta_to_zero"}[name]
    )
    gone.with_suffix(".npz").unlink()
    assert run_with(tmp_path, experiment=name) == claims
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert {file for file in stored if stored[file] != again[file]} == {f"{gone.name}.npz"}


def run_with(workdir, **changes):
    config = dataclasses.replace(TINY, **changes)
    with Run(workdir, config) as run:
        return experiment.run(config, run)


@pytest.mark.slow
def test_every_part_runs(tmp_path):
    config = {
        "experiment": "tofu",
        "parts": tuple(experiment.PARTS),
        "tofu_authors": 4,
        "half_epochs": 1,
        "quarter_questions": 40,
        "quarter_epochs": 2,
        "retain_coeffs": (0.0, 1.0),
        "gammas": (0.0,),
        "betas": (2.5,),
        "num_seeds": 2,
        "other_percents": (3.0,),
    }
    claims = run_with(tmp_path, **config)
    found = {claim.id: claim for claim in claims}
    assert {"S5", "S5b", "S5c", "N6", "S7", "N8", "S8", "N4-3"} <= found.keys()
    assert "n=2" in found["N1-tofu"].measured
    phases = {path.stem for path in (tmp_path / "results").iterdir()}
    assert {"tofu_original_0", "tofu_original_1", "tofu_10_NPO+RT_1"} <= phases
    assert "tofu_retrained_3" not in phases  # the one that never saw 10% serves
    assert {claim.verdict for claim in claims} <= {"pass", "fail", "reported"}


def test_every_method_is_searched_with_one_budget():
    for name in tofu_search.FORMS:
        cells = [(repr(form), rate) for form, rate in tofu_search.cells(name)]
        assert len(set(cells)) == tofu_search.CELLS
        assert len({rate for _, rate in cells[:2]}) == 2


def test_a_search_selects_the_best_of_the_useful():
    def row(method, cell, fq, mu):
        return {"method": method, "cell": cell, "fq": fq, "mu": mu}

    useful, useless = row("NPO+RT", 0, 1e-3, 0.8), row("NPO+RT", 1, 0.5, 0.7)
    worse = row("NPO+RT", 2, 1e-4, 0.9)
    collapsed = row("GA+RT", 0, 1.0, 0.0)
    assert tofu_search._best([useful, useless, worse, collapsed], 0.8) == [useful]


@pytest.mark.slow
def test_a_search_goes_on_where_it_was(tmp_path):
    changes = {
        "experiment": "search",
        "search_cells": 1,
        "search_percents": (25.0,),
        "quarter_epochs": 2,
        "tofu_authors": 4,
    }
    (claim,) = run_with(tmp_path, **changes)
    assert claim.id == "search"
    table = (tmp_path / "artifacts" / "search.csv").read_text("utf-8").splitlines()
    assert table[0].startswith("percent,method,beta")
    assert len(table) == 1 + len(tofu_search.FORMS)
    phases = sorted((tmp_path / "results").glob("search_*.npz"))
    assert len(phases) == len(tofu_search.FORMS)
    kept = [phase.stat().st_mtime_ns for phase in phases[1:]]
    phases[0].unlink()
    assert run_with(tmp_path, **changes) == [claim]
    assert [phase.stat().st_mtime_ns for phase in phases[1:]] == kept


@pytest.mark.slow
def test_the_analogue_of_muse(tmp_path):
    changes = {"parts": ("muse",), "muse_epochs": 1, "muse_passages": 2, "tofu_authors": 4}
    (claim,) = run_with(tmp_path, experiment="muse", **changes)
    assert claim.id == "S6"
    assert "task vector" in claim.detail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder with a tiny model and its tokenizer."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = lm.train_tokenizer(["Question: who? Answer: nobody."], 300)
    cfg = tiny.language_model(
        tokenizer.vocab_size, 512, eos_ids=(tokenizer.eos_id,), pad_id=tokenizer.pad_id
    )
    lm.save_hf(path, cfg, lm.init_params(jax.random.key(0), cfg))
    tokenizer.save(path)
    return path


def write_questions(path, name, count):
    rows = [
        f'{{"question": "Who is {i}?", "answer": "It is {name} {i}.", "paraphrased_answer": '
        f'"{name} {i}.", "perturbed_answer": ["Nobody {i}.", "Someone {i}."]}}'
        for i in range(count)
    ]
    (path / f"{name}.jsonl").write_text("\n".join(rows))


def test_own_questions_on_a_checkpoint(folder, tmp_path):
    write_questions(tmp_path, "forget", 8)
    write_questions(tmp_path, "retain", 12)
    changes = {
        "experiment": "tofu",
        "model_dir": str(folder),
        "retrained_dir": str(folder),
        "data_dir": str(tmp_path),
        "method": "dpo+rt",
        "batch_size": 4,
        "lr": 1e-2,
        "max_len": 300,
        "tofu_answer_tokens": 2,
    }
    (claim,) = run_with(tmp_path / "run", **changes)
    assert claim.id == "tofu-checkpoint"
    assert "FQ 1 " in claim.measured  # before: the model is its own retrained one
    before = lm.load_hf(folder)[1]
    _, after = lm.load_hf(tmp_path / "run" / "artifacts" / "model")
    assert not np.array_equal(before["embed"]["w"], after["embed"]["w"])
    # Without its results, the run goes on from its last checkpoint: trained to the end.
    (after_file,) = (tmp_path / "run" / "results").glob("checkpoint_after_*.npz")
    after_file.unlink()
    assert run_with(tmp_path / "run", **changes) == [claim]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((2, 2, 0), "MU is measured on retain.jsonl"),
        ((2, 0, 0), "MU is measured on TOFU's retain set: the first 2 rows of retain.jsonl"),
        ((2, 1, 0), "MU is measured on TOFU's retain set: the first 2 rows of retain.jsonl"),
    ],
)
def test_own_retain_rows_are_measured_where_they_can_be(wrong, said):
    config = dataclasses.replace(TINY, data_dir="x", tofu_questions=2)
    forget = [unlearn.QA("who?", "nobody", None, ("x",))]
    retain = [unlearn.QA(f"what is {i}?", "it", None, ("x",) * n) for i, n in enumerate(wrong)]
    sets, about = checkpoints._tofu_sets(config, forget, retain)
    own = sets["retain"] == retain[:2]
    assert own == (wrong[:2] == (2, 2))
    assert own or sets["retain"] == unlearn.load_tofu("retain_perturbed")[:2]
    assert about.startswith(said)


def test_a_large_vocabulary_trains_the_same(folder, tmp_path, monkeypatch):
    write_questions(tmp_path, "forget", 8)
    write_questions(tmp_path, "retain", 8)
    found = []
    for name, large in (("dense", 10**9), ("chunked", 1)):
        monkeypatch.setattr(answers, "_LARGE_VOCAB", large)
        answers.scoring.cache_clear()
        run_with(
            tmp_path / name,
            experiment="tofu",
            model_dir=str(folder),
            data_dir=str(tmp_path),
            method="npo+rt",
            batch_size=4,
            lr=1e-2,
            epochs=1,
            max_len=300,
            tofu_answer_tokens=1,
        )
        found.append(lm.load_hf(tmp_path / name / "artifacts" / "model")[1])
    tree_close(found[0], found[1], atol=1e-4)


def muse_on_a_checkpoint(folder, tmp_path, repeats):
    corpus = write_folder(tmp_path / "muse")
    for name in ("forget", "retain1"):
        (corpus / "raw" / f"{name}.txt").write_text(f"text of {name} " * repeats)
    return run_with(
        tmp_path / "run",
        experiment="muse",
        model_dir=str(folder),
        data_dir=str(corpus),
        method="simnpo+rt",
        max_len=32,
        batch_size=4,
    )


def test_muse_trains_at_one_rate_and_measures_from_begin_of_text(folder, tmp_path, monkeypatch):
    found = {}

    def train(loss_fn, optimizer, params, batch_at, **settings):
        found["optimizer"] = optimizer
        return SimpleNamespace(params=params)

    def scores(speaker, params, corpus, bos_id):
        found["bos_id"] = bos_id
        return dict.fromkeys(("verbmem", "knowmem_forget", "knowmem_retain", "auc"), 0.5)

    monkeypatch.setattr(lm, "train", train)
    monkeypatch.setattr(checkpoints, "muse_scores", scores)
    muse_on_a_checkpoint(folder, tmp_path, 20)
    assert found["bos_id"] == lm.load_tokenizer(folder).bos_id
    params, optimizer = {"w": np.zeros(1, np.float32)}, found["optimizer"]
    state = optimizer.init(params)
    for _ in range(3):  # Adam on a gradient that stays the same moves by the rate
        updates, state = optimizer.update({"w": np.ones(1, np.float32)}, state, params)
        np.testing.assert_allclose(updates["w"], -TINY.lr, rtol=1e-4)


@pytest.mark.slow
def test_a_muse_corpus_on_a_checkpoint(folder, tmp_path):
    (claim,) = muse_on_a_checkpoint(folder, tmp_path, 20)
    assert claim.id == "muse-checkpoint"


@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs more devices than rows")
def test_fewer_rows_than_devices(folder, tmp_path):
    muse_on_a_checkpoint(folder, tmp_path, 1)  # on as many devices as divide the batch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, divergence"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"tofu_authors": 21}, "tofu_authors must be <= 20"),
        ({"tofu_pretraining": 3921}, r"tofu_pretraining must lie in 0\.\.3920"),
        ({"chain_sequences": 10}, "chain_sequences must be >= 50"),
        ({"tofu_width": 12}, "tofu_width must be a multiple of 8"),
        ({"search_cells": 9}, "search_cells must be <= 8, got 9"),
        ({"search_methods": ("GA",)}, "search_methods must be of NPO"),
        ({"search_percents": (0.0,)}, r"search_percents must lie in \(0, 100\)"),
        (
            {"other_percents": (5.0, 10.0)},
            "leave out forget_percent",
        ),
        ({"other_percents": (100.0,)}, r"other_percents must lie in \(0, 100\)"),
        ({"num_seeds": 0}, "num_seeds must be >= 1, got 0"),
        ({"experiment": "search", "model_dir": "x"}, "leave model_dir out"),
        ({"half_settings": 4}, "half_settings must be at most 3, got 4"),
        ({"tofu_methods": ("GA",)}, "tofu_methods must be of GA"),
        ({"tofu_methods": ("XY",)}, "tofu_methods must be of GA"),
        ({"quarter_methods": ("GA",)}, "quarter_methods must be of NPO"),
        ({"relearn": ("longest",)}, "relearn must be of random, shortest"),
        ({"parts": ("thirds",)}, "parts must be of quarter"),
        ({"parts": ("quarter",), "quarter_questions": 20}, "quarter_questions must be > 20"),
        ({"forget_percent": 0.0}, r"forget_percent must lie in \(0, 100\)"),
        ({"alphas": (0.5,)}, "alphas must be 0 and 1"),
        ({"data_dir": "x"}, "give --model_dir"),
        ({"experiment": "muse", "model_dir": "x"}, "give --data_dir"),
        ({"method": "npo+xy"}, "method must be one of ga"),
        ({"model_dir": "x", "method": "npo+kl"}, "keeps a second model"),
        (
            {"experiment": "muse", "model_dir": "x", "data_dir": "x", "method": "dpo+rt"},
            "dpo\\+rt needs refusals to questions",
        ),
        ({"beta": -1.0}, "beta must be > 0"),
    ],
)
def test_refuses(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_with(tmp_path, **changes)


def test_an_end_of_text_is_needed(folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    config = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
    del config["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ValueError, match="names no end-of-text token"):
        run_with(tmp_path / "run", experiment="tofu", model_dir=str(model))


def test_rows_of_mini_tofu_are_not_run_beside_a_checkpoint(tmp_path, monkeypatch):
    studies = (experiment.divergence, experiment.random_features, experiment.markov)
    for study in (*studies, experiment.simplicity):
        monkeypatch.setattr(study, "measure", lambda config, run: [])
    monkeypatch.setattr(checkpoints, "measure_tofu", lambda config, run: [])
    claims = run_with(tmp_path, model_dir="x")
    measured = {"N1", "N2", "N3", "N7", "S1", "S2", "S4"}
    assert {claim.id for claim in claims} == {*ROWS, *LEFT_OUT} - measured
    for claim in claims:
        assert claim.verdict == "not run"
        assert "--model_dir" in claim.detail


def test_official_layout():
    """What an evaluation writes is what `tofu_report` reads."""
    assert set(unlearn.load_tofu_logs("full")) == {
        "eval_log.json",
        "eval_log_forget.json",
        "eval_real_author_wo_options.json",
        "eval_real_world_wo_options.json",
    }
