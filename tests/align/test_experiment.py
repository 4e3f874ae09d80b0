import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.align import experiment
from jaxlab.runs import Run
from tests.align.test_prompts import CHAT
from tests.experiments import check_restart, check_rows

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    lm_steps=4,
    lm_rows=4,
    lm_length=30,
    n_init=16,
    max_new_tokens=30,
    sweep=(0.25, 0.5, 0.75),
    num_keys=2,
    short_tokens=16,
    rm_steps=2,
    rm_pairs=4,
    additive_rows=64,
    additive_keys=2,
)
ROWS = "C1 C2 C3 C4 C4-additive C4-text C5 C6 C7 C8 C9 C10".split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("align")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts.pop("C4-text") == "not run"
    assert verdicts.pop("C10") == "pass"
    for row in ("C1", "C3", "C4", "C5", "C7", "C8", "C9"):
        assert verdicts[row] == "reported"  # the criteria are for hundreds of rows
    assert len(list((workdir / "figures").glob("*.png"))) == 8


def test_a_restart_computes_only_what_is_missing_and_ends_the_same(finished):
    removed = ["perplexity", "sweep", "tuned_DPO", "judged_whole"]
    check_restart(experiment, TINY, *finished, removed=removed, kept="pair_0_0")


def run_with(workdir, **changes):
    config = dataclasses.replace(TINY, **changes)
    with Run(workdir, config) as run:
        return experiment.run(config, run)


def test_a_text_of_ones_own(tmp_path):
    lines = [f"the cat number {i} sat on the mat and saw {i + 1} dogs" for i in range(80)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    (claim,) = run_with(
        tmp_path / "run",
        experiment="text",
        text=str(tmp_path / "text.txt"),
        text_steps=2,
        text_prompts=1,
        text_tokens=36,
    )
    assert claim.id == "C4-text"
    assert claim.verdict == "reported"
    assert "perplexity" in claim.measured


def folder(path, *, words, labels=0):
    """A random model and its tokenizer as a Hugging Face folder."""
    tokenizer = lm.train_tokenizer([words], 280)
    tokenizer.config["chat_template"] = CHAT
    cfg = lm.LMConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2,
        head_dim=8, d_ff=16, max_seq_len=128, eos_ids=(tokenizer.eos_id,), num_labels=labels,
    )  # fmt: skip
    lm.save_hf(path, cfg, lm.init_params(jax.random.key(labels), cfg))
    tokenizer.save(path)
    return str(path)


@pytest.mark.parametrize("judged", [True, False])
def test_own_models_and_prompts(judged, tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps([{"prompt": "Who?"}, {"prompt": "Why so?"}]))
    settings = {
        "experiment": "own",
        "lm_path": folder(tmp_path / "model", words="who why"),
        "reward_path": folder(tmp_path / "judge", words="so", labels=1) if judged else "",
        "prompts": str(tmp_path / "prompts.json"),
        "own_tokens": 24,
        "own_best_of": 4,
        "own_rows": 6,
        "cache_gib": 6 * 40 * 128 / 2**30,
    }
    (claim,) = run_with(tmp_path / "run", **settings)
    assert claim.id == "C4-own"
    assert "improvement score" in claim.measured
    lines = (tmp_path / "run" / "artifacts" / "responses.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["prompt"] for entry in entries] == ["Who?", "Why so?"]
    for entry in entries:
        assert np.isfinite(entry["score"])
        assert entry["rounds"] >= 2
        assert entry["tokens_generated"] > 24
        assert isinstance(entry["response"], str)
    logged = [row for row in Run(tmp_path / "run", dataclasses.replace(TINY, **settings)).metrics()
              if "own/alive" in row]  # fmt: skip
    assert {row["own/alive"] for row in logged} >= {6}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, tuning"),
        ({"num_prompts": 9}, "num_prompts must be at most 8, got 9"),
        ({"n_init": 8}, "n_init must be >= 16, got 8"),
        ({"short_tokens": 31}, "short_tokens 31 exceeds max_new_tokens 30"),
        ({"alphas": ()}, r"alphas must hold numbers in \(0, 1\), got \(\)"),
        ({"sweep": (0.5, 1.0)}, "sweep must hold numbers"),
        ({"experiment": "own"}, "needs --lm_path and --prompts"),
    ],
)
def test_refuses(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_with(tmp_path, **change)
