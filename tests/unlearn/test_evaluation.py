"""What a language model does with questions, against the functions of the language model itself."""

import jax
import numpy as np
import pytest

from jaxlab import lm, unlearn
from jaxlab.unlearn.answers import FORMATS, Speaker, answer_lengths, answer_nll
from jaxlab.unlearn.muse_evaluation import muse_scores
from jaxlab.unlearn.tofu_evaluation import Evaluation
from tests.unlearn import tiny

QUESTIONS = [
    unlearn.QA(f"who is {i}", f"it is {i}{i}", f"{i} it is", (f"not {i}", "nobody"))
    for i in range(5)
]
GENERAL = [
    unlearn.QA(qa.question, qa.answer, None, (*qa.perturbed_answer, "x")) for qa in QUESTIONS
]


@pytest.fixture(scope="module")
def model():
    tokenizer = lm.train_tokenizer([qa.question + qa.answer for qa in QUESTIONS], 262)
    cfg = tiny.language_model(
        tokenizer.vocab_size,
        64,
        init_std=0.3,
        eos_ids=(tokenizer.eos_id,),
        pad_id=tokenizer.pad_id,
    )
    speaker = Speaker(tokenizer, cfg, lm.make_apply_fn(cfg), FORMATS["plain"], 24)
    return speaker, lm.init_params(jax.random.key(0), cfg)


def nll(model, question, answer):
    speaker, params = model
    prompt = speaker.tokenizer.encode(question + "\n")
    ids = [*prompt, *speaker.tokenizer.encode(answer), speaker.tokenizer.eos_id]
    logp = lm.token_log_probs(speaker.apply_fn(params, np.array([ids])), np.array([ids]))
    return -float(np.mean(logp[0, len(prompt) - 1 :]))


def test_answers_are_scored_with_their_end(model):
    speaker, params = model
    rows = speaker.encode([(qa.question, qa.answer) for qa in QUESTIONS])
    expected = [nll(model, qa.question, qa.answer) for qa in QUESTIONS]
    np.testing.assert_allclose(answer_nll(speaker, params, rows), expected, rtol=1e-4)
    sizes = [len(speaker.tokenizer.encode(qa.answer)) + 1 for qa in QUESTIONS]
    np.testing.assert_array_equal(answer_lengths(rows), sizes)


def test_logs_hold_each_question_in_its_place(model):
    speaker, params = model
    sets = {"retain": QUESTIONS[:2], "forget": QUESTIONS[2:]}
    sets |= {"real_authors": GENERAL[:1], "world_facts": GENERAL[3:]}
    logs = Evaluation.encode(speaker, sets, max_new_tokens=5).logs(params)
    forget, facts = logs["eval_log_forget.json"], logs["eval_real_world_wo_options.json"]
    for i, qa in enumerate(QUESTIONS[2:]):
        asked = qa.question
        assert forget["avg_gt_loss"][i] == pytest.approx(nll(model, asked, qa.answer), rel=1e-4)
        paraphrased = nll(model, asked, qa.paraphrased_answer)
        assert forget["avg_paraphrased_loss"][i] == pytest.approx(paraphrased, rel=1e-4)
        wrong = [nll(model, asked, answer) for answer in qa.perturbed_answer]
        np.testing.assert_allclose(forget["average_perturb_loss"][i], wrong, rtol=1e-4)
    np.testing.assert_array_equal(facts["avg_gt_loss"], facts["avg_paraphrased_loss"])
    assert facts["average_perturb_loss"].shape == (2, 3)
    said, ids = speaker.greedy_answers(
        params, [qa.question + "\n" for qa in QUESTIONS[2:]], max_new_tokens=5, batch_size=2
    )
    assert list(logs["answers"]) == said
    assert all(len(row) <= 5 for row in ids)
    rouge = [unlearn.rouge_l(q.answer, a).recall for q, a in zip(QUESTIONS[2:], said, strict=True)]
    np.testing.assert_allclose(forget["rougeL_recall"], rouge)
    assert 0 <= unlearn.tofu_report(logs, logs).model_utility <= 1


def test_sets_that_cannot_be_evaluated_are_refused(model):
    speaker, _ = model
    sets = dict.fromkeys(("retain", "forget", "real_authors"), QUESTIONS)
    with pytest.raises(ValueError, match="sets world_facts are missing"):
        Evaluation.encode(speaker, sets, max_new_tokens=5)
    for bad in ([], [unlearn.QA("a", "b")], [QUESTIONS[0], GENERAL[0]]):
        with pytest.raises(ValueError, match="world_facts needs questions with the same number"):
            Evaluation.encode(speaker, sets | {"world_facts": bad}, max_new_tokens=5)


def test_muse_scores_of_a_model(model):
    speaker, params = model
    texts = [qa.question + " " + qa.answer for qa in QUESTIONS]
    corpus = unlearn.MuseCorpus(
        raw={},
        verbmem=[("who is", " 1 it is")],
        knowmem={"forget": QUESTIONS[:1], "retain": QUESTIONS[1:2]},
        knowmem_icl={},
        privleak={"forget": texts[:3], "retain": [], "holdout": texts[3:]},
    )
    kw = {"verbatim_tokens": 3, "answer_tokens": 3, "examples": False}
    found = muse_scores(speaker, params, corpus, batch_size=2, **kw)
    assert set(found) == {"verbmem", "knowmem_forget", "knowmem_retain", "auc"}

    def score(text):
        ids = np.array([speaker.tokenizer.encode(text)[:24]])
        logp = lm.token_log_probs(speaker.apply_fn(params, ids), ids)
        return unlearn.min_k_score(logp, np.ones_like(logp))[0]

    scores = [score(text) for text in texts]
    assert found["auc"] == pytest.approx(unlearn.privleak_auc(scores[:3], scores[3:]))


def test_muse_texts_open_as_the_rows_of_training(model, monkeypatch):
    speaker, params = model
    tokenizer, asked, scored = speaker.tokenizer, [], []

    def answers(self, params, prompts, **settings):
        asked.extend(prompts)
        return ["it is"] * len(prompts), []

    def apply_fn(params, tokens):
        scored.append(tokens)
        return speaker.apply_fn(params, tokens)

    monkeypatch.setattr(Speaker, "greedy_answers", answers)
    corpus = unlearn.MuseCorpus(
        raw={},
        verbmem=[("who is", " 1 it is")],
        knowmem={"forget": QUESTIONS[:1], "retain": QUESTIONS[1:2]},
        knowmem_icl={"forget": QUESTIONS[2:3], "retain": QUESTIONS[2:3]},
        privleak={"forget": ["who is 1"] * 2, "retain": [], "holdout": ["nobody"] * 2},
    )
    bos = tokenizer.bos_id
    muse_scores(speaker._replace(apply_fn=apply_fn), params, corpus, bos_id=bos, batch_size=2)
    opened = [tokenizer.encode(text) for text in asked] + [list(row) for row in scored[0]]
    assert len(opened) == 5
    for ids in opened:
        assert ids.count(bos) == 1
        assert ids[0] == bos
