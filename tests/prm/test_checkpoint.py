"""A Hugging Face folder of random weights through every stage, and the pieces of that."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlab import lm, prm
from jaxlab.prm.studies import texts
from jaxlab.prm.studies.texts import Reader
from jaxlab.prm.text_verifier import TextVerifier, text_logits
from jaxlab.prm.toy import to_socratic
from jaxlab.prm.vocabulary import MARKS, MarkedTokenizer, grow_vocabulary

TOY = prm.ToyConfig(min_ops=1, max_ops=2, max_value=9, max_operand=3)
TINY = dataclasses.replace(
    prm.AutoPRMConfig.preset("paper"),
    batch_rows=4,
    sft_problems=6,
    sft_steps=2,
    verifier_problems=4,
    verifier_candidates=2,
    verifier_steps=2,
    rounds=1,
    round_problems=3,
    k=2,
    rl_steps=2,
    rl_lr=1e-4,
    plan_problems=2,
    row_tokens=256,
    step_tokens=16,
    sample_rows=4,
)


def write_problems(path, seed, count):
    rng = np.random.default_rng(seed)
    rows = [to_socratic(prm.toy_problem(rng, TOY)) for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path), rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of one layer and a tokenizer of a few words."""
    path = tmp_path_factory.mktemp("model")
    _, rows = write_problems(path / "words.jsonl", 0, 20)
    tokenizer = lm.train_tokenizer([row["question"] for row in rows], 340)
    cfg = lm.LMConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2,
        head_dim=8, d_ff=16, max_seq_len=256, eos_ids=(tokenizer.eos_id,),
    )  # fmt: skip
    lm.save_hf(path, cfg, lm.init_params(jax.random.key(0), cfg))
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    cfg, params = lm.load_hf(folder)
    tokenizer = MarkedTokenizer(lm.load_tokenizer(folder), cfg.vocab_size)
    cfg, params = grow_vocabulary(jax.random.key(1), params, cfg, len(MARKS))
    return Reader(cfg, tokenizer, 256, 16, 4), params


def test_every_stage_runs_from_a_folder(folder, tmp_path):
    data, _ = write_problems(tmp_path / "train.jsonl", 1, 8)
    test_data, _ = write_problems(tmp_path / "test.jsonl", 2, 3)
    config = dataclasses.replace(TINY, model=str(folder), data=data, test_data=test_data)
    result = prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")
    rows = {claim.id: claim for claim in result.claims}
    assert rows["P1"].verdict == "reported"
    assert "8 problems of train.jsonl, 3 tested" in rows["P1"].detail
    assert {row.verdict for name, row in rows.items() if name != "P1"} == {"not run"}
    assert {"sft", "orm", "autoprm", "autoprm_no_cgd"} <= result.accuracy.keys()
    assert all(0 <= value <= 1 for value in result.accuracy.values())
    assert result.granularity[1.0] == 1
    assert (tmp_path / "run" / "figures" / "arms.png").is_file()

    (kept,) = (tmp_path / "run" / "results").glob("orm_round1_*.npz")
    kept.unlink()
    again = prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")
    assert again.claims == result.claims  # a restart goes on from the stored stages


def test_strategyqa_is_measured_as_commonsense(folder, tmp_path):
    rows = [
        {
            "question": f"Does Ada have more pens than {name}?",
            "decomposition": ["How many pens has Ada?", f"Is #1 more than {name} has?"],
            "facts": ["Ada has 5 pens.", f"{name} has {count} pens.", "Pens are few."],
            "answer": count < 5,
        }
        for count, name in enumerate(("Ben", "Cleo", "Dev", "Elif", "Finn", "Gita", "Hugo"))
    ]
    data = tmp_path / "strategyqa.json"
    data.write_text(json.dumps(rows))
    config = dataclasses.replace(TINY, model=str(folder), data=str(data), plan_problems=1)
    result = prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")
    found = {claim.id: claim for claim in result.claims}
    assert found["A9"].verdict == "reported"
    assert "6 problems of strategyqa.json, 1 tested" in found["A9"].detail
    assert {row.verdict for name, row in found.items() if name != "A9"} == {"not run"}


def test_without_a_model_every_row_says_what_to_give(tmp_path):
    result = prm.run_autoprm(jax.random.key(0), TINY, tmp_path)
    assert {claim.verdict for claim in result.claims} == {"not run"}
    assert "--model and --data" in result.claims[-1].detail


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ""}, "needs --data.*test set"),
        ({"row_tokens": 512}, "row_tokens <= 256"),
        ({"step_tokens": 256}, "step_tokens < row_tokens"),
    ],
)
def test_settings_that_cannot_work_are_refused(folder, tmp_path, change, message):
    data, _ = write_problems(tmp_path / "train.jsonl", 1, 3)
    settings = {"model": str(folder), "data": data, "test_data": data.replace("train", "test")}
    write_problems(tmp_path / "test.jsonl", 2, 2)
    config = dataclasses.replace(TINY, **(settings | change))
    with pytest.raises(ValueError, match=message):
        prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")


def test_test_problems_are_not_trained_on(folder, tmp_path):
    data, _ = write_problems(tmp_path / "both.jsonl", 1, 3)
    config = dataclasses.replace(TINY, model=str(folder), data=data, test_data=data)
    with pytest.raises(ValueError, match="0 problems that are not tested on"):
        prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")


def test_plain_rows_are_refused_with_their_place(folder, tmp_path):
    (tmp_path / "plain.jsonl").write_text(json.dumps({"question": "Q?", "answer": "one\n#### 1"}))
    test_data, _ = write_problems(tmp_path / "test.jsonl", 2, 2)
    config = dataclasses.replace(
        TINY, model=str(folder), data=str(tmp_path / "plain.jsonl"), test_data=test_data
    )
    with pytest.raises(ValueError, match=r"plain\.jsonl: row 1: .*got 'one'"):
        prm.run_autoprm(jax.random.key(0), config, tmp_path / "run")


def test_marks_are_single_tokens_and_come_back(model):
    tokenizer = model[0].tokenizer
    text = "<PRE> how many? <SUF> <END> <MID> Ada has 3.\n<SEP>"
    ids = tokenizer.encode(text)
    assert sum(i >= model[0].cfg.vocab_size - len(MARKS) for i in ids) == 5
    assert tokenizer.decode(ids) == text


def test_new_tokens_leave_the_logits_of_old_ones(folder, model):
    cfg, params = lm.load_hf(folder)
    tokens = np.arange(12)[None] + 3
    old = lm.forward(params, cfg, tokens).logits
    new = lm.forward(model[1], model[0].cfg, tokens).logits
    assert new.shape[-1] == old.shape[-1] + len(MARKS)
    np.testing.assert_allclose(new[..., : old.shape[-1]], old, rtol=1e-6)
    tied = dataclasses.replace(cfg, tie_embeddings=True)
    bare = {name: leaf for name, leaf in params.items() if name != "head"}
    grown = grow_vocabulary(jax.random.key(1), bare, tied, 3)
    assert lm.forward(grown[1], grown[0], tokens).logits.shape[-1] == old.shape[-1] + 3


def problem():
    return prm.parse_socratic(
        "Ada has 3 pens. Ben has 2 more.",
        "How many has Ada? ** Ada has 3 pens.\nHow many has Ben? ** 3+2=<<3+2=5>>5 pens.\n#### 5",
    )


def test_documents_are_prompt_and_target(model):
    reader, _ = model
    plan = texts.plan_text(problem(), 1.0)
    first, last = (reader.tokenizer.decode(d.ids) for d in texts.answer_documents(reader, [plan]))
    assert first == (
        "<PRE> How many has Ada? <SUF> How many has Ben? <MID> Ada has 3 pens. Ben has 2 more.\n"
        "Ada has 3 pens.<SEP>"
    )
    assert last.startswith("<PRE> How many has Ben? <SUF> <END> <MID> Ada")
    assert last.endswith("\nAda has 3 pens.\n3+2=<<3+2=5>>5 pens.\n#### 5<SEP>")
    without = texts.answer_documents(reader._replace(cgd=False), [plan])[0]
    assert "Ben?" not in reader.tokenizer.decode(without.ids)
    learned = reader.tokenizer.decode(without.ids[without.loss_mask])
    assert learned == "Ada has 3 pens.<SEP>"
    (decomposition,) = texts.plan_documents(reader, [plan], 0.8)
    assert reader.tokenizer.decode(decomposition.ids).endswith(
        "\n<EPS> 0.80\n<QD>How many has Ada?\nHow many has Ben?<END>"
    )
    assert texts.answer_documents(reader._replace(row_tokens=8), [plan]) == []


def test_sub_answers_are_compared_exactly():
    ada, ben = problem().steps
    assert texts.same_answer("so 3 pens<SEP>", ada)
    assert texts.same_answer("2+3=<<2+3=5.0>>5.0", ben)
    assert not texts.same_answer("4 pens", ada)
    assert not texts.same_answer("none", ada)
    yes = prm.Step("Is 3 more than 2?", "", "yes")
    assert texts.same_answer("3 is more than 2.\n#### Yes<SEP>", yes)
    assert not texts.same_answer("3 is more than 2.\n#### no", yes)
    assert not texts.same_answer("yes", yes)  # without the line
    assert texts.same_answer("whatever", yes._replace(answer=None))  # nothing is known


def test_candidates_follow_the_chosen_one_and_are_judged_as_texts(model):
    reader, params = model
    cfg = dataclasses.replace(reader.cfg, head_bias=True)
    few = np.full(cfg.vocab_size, -30, np.float32)  # of eleven tokens, so that many texts end
    few[[*range(100, 110), reader.tokenizer.sep_id]] = 0
    params = params | {"head": params["head"] | {"b": few}}
    reader = reader._replace(cfg=cfg)
    head = jax.random.normal(jax.random.key(3), cfg.d_model)
    verifier = TextVerifier(params, head, np.float32(0.1))
    plan = texts.plan_text(problem(), 1.0)
    attempts = texts.answer_plans(jax.random.key(0), reader, params, verifier, [plan] * 2, k=2)
    assert any(a.complete.any() for p in attempts for a in p)
    for steps in attempts:
        for t, attempt in enumerate(steps):
            said = [texts.said(reader, a) for a in steps[:t]]
            assert attempt.prompt == texts.step_prompt(reader, plan, said, t)
            for ids, complete, reward in zip(
                attempt.ids, attempt.complete, attempt.reward, strict=True
            ):
                assert complete == (reader.tokenizer.sep_id in ids)
                whole = [*attempt.prompt, *ids]
                tokens = np.zeros((1, 256), np.int32)
                tokens[0, : len(whole)] = whole
                ends = np.array([len(whole) - 1])
                logit = text_logits(verifier, reader.cfg, tokens, ends)[0]
                expected = jax.nn.sigmoid(logit) if complete else 0
                np.testing.assert_allclose(reward, expected, atol=1e-5)
