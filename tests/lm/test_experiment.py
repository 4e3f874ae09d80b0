"""The command line's experiments at toy size: train, go on, evaluate, generate, fine-tune."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.lm import experiment, text_experiment, text_recipe
from jaxlab.runs import Run

pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

TINY = experiment.Config(
    experiment="train",
    stories=60,
    vocab_size=300,
    d_model=16,
    n_heads=2,
    n_layers=1,
    seq_len=64,
    steps=6,
    batch_size=4,
    warmup_steps=1,
    eval_every=3,
    eval_rows=8,
    max_new_tokens=8,
    prompt="One morning, Ada",
)


def run(workdir, **changes):
    config = dataclasses.replace(TINY, **changes)
    with Run(workdir, config) as opened:
        return experiment.run(config, opened)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    claims = run(workdir)
    return workdir, {claim.id: claim for claim in claims}


def test_training_leaves_a_model_a_sample_and_claims(trained, capsys):
    workdir, claims = trained
    assert set(claims) == {"T1", "T2", "T3"}
    assert "tokens/s" in claims["T3"].measured
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert rows[1]["loss"] < rows[0]["loss"]
    assert (workdir / "figures" / "training.png").stat().st_size > 10_000
    assert (workdir / "artifacts" / "sample.txt").read_text().startswith("One morning, Ada")
    model = text_recipe.load_model(workdir)
    assert model.cfg.d_model == 16
    assert model.tokenizer.vocab_size == model.cfg.vocab_size


def test_the_sample_after_training_fits_a_short_context(tmp_path):
    run(tmp_path, seq_len=8, max_new_tokens=64)
    assert (tmp_path / "artifacts" / "sample.txt").read_text().startswith("One")
    assert text_recipe.load_model(tmp_path).cfg.max_seq_len == 8


def test_a_killed_run_goes_on_to_the_same_numbers(trained, tmp_path, monkeypatch):
    original = text_experiment.save_state

    def killed(path, state):
        original(path, state)
        if int(state.step) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(text_experiment, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    early = text_recipe.load_model(tmp_path).params  # from the checkpoint alone
    run(tmp_path)
    whole, resumed = (text_recipe.load_model(path).params for path in (trained[0], tmp_path))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (early["embed"]["w"] != resumed["embed"]["w"]).any()


def test_generating_from_the_workdir_and_from_its_model_folder(trained, tmp_path, capsys):
    settings = {"experiment": "generate", "temperature": 0.0}
    run(tmp_path / "a", model=str(trained[0]), **settings)
    first = capsys.readouterr().out
    run(tmp_path / "b", model=str(trained[0] / "artifacts" / "model"), **settings)
    assert capsys.readouterr().out == first
    assert first.startswith("One morning, Ada")
    model = text_recipe.load_model(trained[0])
    ids = lm.encode_prompt(model.tokenizer, TINY.prompt)
    tokens = lm.generate(
        jax.random.key(0),
        model.params,
        model.cfg,
        [ids],
        max_new_tokens=8,
        sampling=lm.SamplingConfig(temperature=0),
    ).tokens[0]
    assert first.strip() == TINY.prompt + model.tokenizer.decode(
        tokens, skip_special_tokens=True
    ).rstrip("\ufffd")


def test_evaluating_a_file(trained, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(" ".join(story.text for story in lm.write_stories(9, 10)))
    (claim,) = run(tmp_path / "eval", experiment="eval", model=str(trained[0]), valid=str(file))
    model = text_recipe.load_model(trained[0])
    rows = lm.pack(
        [lm.encode_document(model.tokenizer, file.read_text())], 64, pad_id=model.tokenizer.pad_id
    )
    total, weight = lm.next_token_loss(model.params, model.cfg, rows)
    assert float(claim.measured) == pytest.approx(float(np.exp(total / weight)), rel=1e-3)


def test_fine_tuning_with_adapters_on_conversations(trained, tmp_path):
    model = text_recipe.load_model(trained[0])
    folder = tmp_path / "base"
    lm.save_hf(folder, model.cfg, model.params)
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    lm.Tokenizer(
        model.tokenizer._backend, model.tokenizer.config | {"chat_template": template}
    ).save(folder)
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello " * 30}]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join([json.dumps({"messages": chat})] * 12))
    workdir = tmp_path / "tuned"
    changes = {"model": str(folder), "train": str(file), "lora_rank": 2, "chat": True}
    run(workdir, **changes, parallel="pmap", eval_every=6)
    tuned = text_recipe.load_model(workdir).params
    changed = {
        path[-1].key
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(tuned), jax.tree.leaves(model.params), strict=True
        )
        if (np.asarray(a) != np.asarray(b)).any()
    }
    assert changed == {"wq", "wk", "wv", "wo"}
    assert (workdir / "artifacts" / "sample.txt").read_text().startswith("[user]One morning")


def test_splits_do_not_change_what_is_learned(trained, tmp_path):
    expected = text_recipe.load_model(trained[0]).params
    for name, changes in {
        "pmap": {"parallel": "pmap"},
        "mesh": {"mesh": (2, 2), "grad_accum": 2, "remat": "full", "loss_chunk": 64},
    }.items():
        run(tmp_path / name, **changes)
        params = text_recipe.load_model(tmp_path / name).params
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            # Adam turns a gradient of rounding into a step: a bound, not bits.
            np.testing.assert_allclose(a, b, atol=2e-3)


def test_gpt2_architecture_trains(tmp_path):
    claims = run(tmp_path, architecture="gpt2", steps=3, schedule="wsd")
    cfg = text_recipe.load_model(tmp_path).cfg
    assert (cfg.position, cfg.tie_embeddings, cfg.d_ff) == ("learned", True, 64)
    assert len(claims) == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"experiment": "generate"}, "--model"),
        ({"experiment": "eval", "valid": "x"}, "--model"),
        ({"experiment": "eval", "model": "x"}, "--valid"),
        ({"n_heads": 3}, "n_heads=3"),
        ({"mesh": (2,)}, "mesh"),
        ({"mesh": (2, 2), "parallel": "pmap"}, "mesh"),
    ],
)
def test_bad_settings(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        run(tmp_path, **changes)


def test_bad_folders_and_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "a", experiment="generate", model=str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "b", train=str(tmp_path / "nothing.txt"))
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(ValueError, match="seq_len"):
        run(tmp_path / "c", train=str(short))


def test_every_claim_has_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "_copy", lambda config, run: [])
    monkeypatch.setattr(experiment, "_check", lambda config, run: [])
    claims = run(tmp_path, experiment="all", steps=3)
    assert [claim.id for claim in claims] == ["L1", "L3", "L7", "L8", "T1", "T2", "T3"]
    assert {claim.verdict for claim in claims[:4]} == {"not run"}


GOOD = {
    "measure_cache": {"logit_error": 1e-6, "greedy_agreement": 1.0},
    "measure_resume": {"differing": 0, "entries": 9},
    "measure_batch_invariance": {"agreement": 1.0, "tokens": 96},
    "measure_splits": {"pmap": 1e-6, "jit": 2e-6},
    "measure_sharding": {"logit_error": 1e-6, "largest_share": 0.25},
}
BAD = {
    "L2": ("measure_cache", {"logit_error": 1e-3}),
    "L4": ("measure_splits", {"jit": 1e-3}),
    "L5": ("measure_resume", {"differing": 1}),
    "L6": ("measure_batch_invariance", {"agreement": 0.99}),
    "L9": ("measure_sharding", {"largest_share": 1.0}),
}


@pytest.mark.parametrize("bad", [None, *BAD])
def test_rows_of_the_checks(tmp_path, monkeypatch, bad):
    measured = {name: dict(numbers) for name, numbers in GOOD.items()}
    if bad:
        name, change = BAD[bad]
        measured[name] |= change
    for name, numbers in measured.items():
        monkeypatch.setattr(experiment.conformance, name, lambda *_, numbers=numbers: numbers)
    verdicts = {claim.id: claim.verdict for claim in run(tmp_path, experiment="checks")}
    assert verdicts == {row: "fail" if row == bad else "pass" for row in BAD}


@pytest.mark.parametrize(("steps", "verdict"), [(799, "reported"), (800, "fail")])
def test_the_entropy_is_asked_for_at_full_length_only(tmp_path, monkeypatch, steps, verdict):
    monkeypatch.setattr(text_experiment.figures, "training", lambda *_: None)
    monkeypatch.setattr(Run, "figure", lambda *_: None)
    valid = {"tokens": np.array([[1, 2, 3]]), "loss_mask": np.ones((1, 3), bool)}
    config = dataclasses.replace(TINY, steps=steps)
    with Run(tmp_path, config) as opened:
        rows = text_experiment._loss_claims(config, opened, {"floor": 0.4, "valid": valid}, 0.5)
    assert rows[1].verdict == verdict


def test_copying_at_smoke_size(tmp_path):
    config = dataclasses.replace(experiment.PRESETS["smoke"], experiment="copy")
    with Run(tmp_path, config) as opened:
        (claim,) = experiment.run(config, opened)
    assert (claim.id, claim.verdict) == ("L10", "pass")
    assert (tmp_path / "figures" / "copying.png").exists()
