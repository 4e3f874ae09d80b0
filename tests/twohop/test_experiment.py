import dataclasses
import json

import numpy as np
import pytest

from jaxlab import twohop
from jaxlab.runs import Run
from jaxlab.twohop import experiment
from jaxlab.twohop.studies import distractors, language_models, main_runs, mechanisms, transition
from tests.experiments import check_rows
from tests.twohop import tiny_language_model

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    n_chains=2,
    vocab_size=20,
    optimizer="adamw",
    dim=8,
    batch_size=8,
    steps=30,
    single_chain_steps=10,
    eval_every=10,
    keep_every=10,
    checkpoint_every=10,
    analysis_size=64,
)
CURVES = dataclasses.replace(TINY, experiment="transition")
ROWS = [
    *("C1", "C1-LM", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C12"),
    *("C12-LM", "C13", "C13-LM"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("twohop")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_there(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts["C10"] == verdicts["C11"] == "pass"
    # Nothing is learned in so few steps, and the table says so.
    assert {verdicts[name] for name in ("C2", "C3", "C5", "C6", "C7", "C8")} == {"fail"}
    assert verdicts["C1-LM"] == verdicts["C12"] == verdicts["C9"] == "not run"
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert drawn == {"transition", "role_attention", "accuracy_by_chains", "three_param"}


def test_metrics_are_logged_by_run(finished):
    rows = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    logged = {name for row in rows for name in row}
    for name in ("adamw_dim8_seed0", "adamw_dim8_seed1", "one_chain_seed0"):
        assert f"{name}/loss" in logged
    assert "one_chain_seed0/other_end" not in logged


def test_a_killed_run_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch):
    save, saved = main_runs.save_checkpoint, []

    class Killed(BaseException):
        pass

    def save_then_die(folder, tree, *, step, keep):
        saved.append(save(folder, tree, step=step, keep=keep))
        if len(saved) == 5:
            raise Killed

    monkeypatch.setattr(main_runs, "save_checkpoint", save_then_die)
    with pytest.raises(Killed), Run(tmp_path, CURVES) as run:
        experiment.run(CURVES, run)
    monkeypatch.undo()
    assert (tmp_path / "checkpoints" / "adamw_dim8_seed1" / "20").is_dir()
    assert not (tmp_path / "claims.json").exists()
    with Run(tmp_path, CURVES) as run:
        claims = experiment.run(CURVES, run)
        rows = run.metrics()
    assert claims == [claim for claim in finished[1] if claim.id in ("C2", "C3", "C8")]
    with Run(finished[0], TINY) as whole:
        for row, other in zip(rows, whole.metrics(), strict=True):
            assert row.items() <= other.items()


def test_a_finished_run_trains_nothing_again(finished, monkeypatch):
    workdir, claims = finished
    monkeypatch.setattr(main_runs, "save_checkpoint", None)
    with Run(workdir, TINY) as run:
        assert experiment.run(TINY, run) == claims


def test_seeds_at_once_resume_and_agree_with_the_loop(finished, tmp_path):
    config = dataclasses.replace(CURVES, seeds_at_once=True)
    with Run(tmp_path, config) as run:
        claims = experiment.run(config, run)
        last = run.metrics()[-1]
    with Run(tmp_path, config) as run:
        assert experiment.run(config, run) == claims
    with Run(finished[0], TINY) as whole:
        row = next(row for row in whole.metrics() if row["step"] == last["step"] == 30)
    single = [row[f"adamw_dim8_seed{seed}/loss"] for seed in (0, 1)]
    np.testing.assert_allclose(last["adamw_dim8/loss"], np.mean(single), rtol=1e-3)


def constructed(config):
    """Two outcomes whose final model is the circuit, on a curve with a plateau and a jump."""
    params, model = twohop.sequential_query_params(main_runs.main_task(config))
    steps = np.arange(50, 1001, 50)
    jumped = steps > 800
    flat = np.where(jumped[:, None, None], 0.95, 0.1) * np.ones((1, 3, 1))
    history = {
        "step": steps,
        "loss": np.where(jumped, 0.01, 1.7),
        "eval_loss": np.where(jumped, 0.01, 1.7),
        "accuracy": np.where(jumped, 1.0, 0.3),
        "target_end": np.where(jumped, 0.99, 0.2),
        "other_end": np.where(jumped, 0.0, 0.17),
        "src_brg": np.full(len(steps), 0.005),
        **dict.fromkeys(twohop.RoleAttention._fields, flat),
    }
    recipe = main_runs.Recipe("circuit", model, twohop.TrainConfig("muon"), 2)
    report = twohop.phase_transition(steps, history["target_end"])
    result = twohop.TrainResult(params, history, {500: params})
    return [main_runs.Outcome(recipe, seed, result, report) for seed in (0, 1)]


def test_the_circuit_passes_what_it_is_built_for(tmp_path):
    config = dataclasses.replace(TINY, n_chains=5, vocab_size=30)
    outcomes = constructed(config)
    with Run(tmp_path, config) as run:
        claims = transition.measure(config, run, lambda: outcomes)
        claims += mechanisms.measure(config, run, lambda: outcomes)
    verdicts = {claim.id: claim.verdict for claim in claims}
    # Its plateau checkpoint does not guess, and its bridge stands in a block that no lens reads.
    assert verdicts.pop("C4") == verdicts.pop("C5") == "fail"
    assert verdicts.pop("C13") == "reported"  # one size
    assert set(verdicts) == {"C2", "C3", "C6", "C7", "C8"}
    assert set(verdicts.values()) == {"pass"}
    assert (tmp_path / "figures" / "patch_sweeps.png").exists()


def test_one_seed_of_five_may_miss_the_transition(tmp_path):
    config = dataclasses.replace(TINY, n_chains=5, vocab_size=30)
    good = constructed(config)[0]
    result = good.result._replace(history=good.result.history | {"accuracy": np.full(20, 0.3)})
    bad = good._replace(result=result, seed=4)
    for missing, verdict in ((1, "pass"), (2, "fail")):
        outcomes = [good] * (5 - missing) + [bad] * missing
        with Run(tmp_path, config) as run:
            claim = transition.measure(config, run, lambda o=outcomes: o)[0]
        assert claim.verdict == verdict
        assert "circuit_seed4 did not" in claim.detail


def test_claims_on_three_layers_need_three(tmp_path):
    config = dataclasses.replace(TINY, n_layers=2)
    with Run(tmp_path, config) as run:
        claims = mechanisms.measure(config, run, lambda: [])
    assert {claim.verdict for claim in claims} == {"not run"}
    assert "--n_layers=3" in claims[0].detail


def test_a_language_model_is_probed_and_fine_tuned(tmp_path):
    pytest.importorskip("tokenizers")
    folder = tmp_path / "model"
    tiny_language_model.write(folder, steps=0)
    config = dataclasses.replace(
        TINY,
        experiment="language",
        model_dir=str(folder),
        lm_chains=(1, 2),
        lm_prompts=4,
        lm_batch_size=4,
        finetune_steps=3,
        finetune_prompts=8,
        lora_rank=4,
    )
    with Run(tmp_path / "out", config) as run:
        claims = experiment.run(config, run)
        assert [claim.id for claim in claims] == ["C1-LM", "C12-LM", "C13-LM"]
        (tuned,) = (tmp_path / "out" / "results").glob("language_tuned_*.npz")
        tuned.unlink()
        assert experiment.run(config, run) == claims
    assert claims[0].measured.count("K = ") == 2
    assert "two ends with one first token" in claims[0].detail
    assert [claim.verdict for claim in claims[1:]] == ["reported", "reported"]
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert figures == {"language_by_chains", "language_attention"}


def test_a_prompt_file_is_split_for_fine_tuning(tmp_path):
    entries = [
        {
            "question": f"q{i}",
            "answer": " a",
            "query_names": [1, 2, 3],
            "non_query_names": [4, 5, 6],
        }
        for i in range(4)
    ]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"2": entries}))
    config = dataclasses.replace(TINY, prompts_json=str(path))
    tests, training = language_models._prompts(config)
    assert [p.question for p in training] == ["q0", "q2"]
    assert [p.question for p in tests[2]] == ["q1", "q3"]
    path.write_text(json.dumps({"1": []}))
    with pytest.raises(ValueError, match="use --finetune_steps=0"):
        language_models._prompts(config)


def test_length_runs_keep_the_sequence_length():
    for count in distractors.CHAINS:
        assert twohop.TaskConfig(count, 10 - 2 * count).seq_len == 22


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, transition"),
        ({"num_seeds": 0}, "num_seeds must be >= 1, got 0"),
        ({"keep_every": 15}, "keep_every 15 is not a multiple of eval_every 10"),
        ({"steps": 9}, "keep_every 10 keeps no parameters of a run of 9 steps"),
        ({"vocab_size": 5}, "vocab_size 5 is too small"),
    ],
)
def test_refuses(change, message, tmp_path):
    config = dataclasses.replace(TINY, **change)
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match=message):
        experiment.run(config, run)
