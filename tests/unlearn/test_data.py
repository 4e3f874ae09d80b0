import json

import jax
import numpy as np
import pytest

from jaxlab import unlearn


def encode(text):
    return [ord(letter) for letter in text]


def text(ids):
    return "".join(chr(i) for i in ids)


def test_bundled_sets_are_the_published_ones():
    full = unlearn.load_tofu("full")
    perturbed = unlearn.load_tofu("forget10_perturbed")
    kept = unlearn.load_tofu("retain_perturbed")
    assert len(full) == 4000
    assert [qa.question for qa in perturbed] == [qa.question for qa in full[-400:]]
    assert [qa.answer for qa in kept] == [qa.answer for qa in full[:400]]
    assert {len(qa.perturbed_answer) for qa in perturbed + kept} == {5}
    assert all(qa.paraphrased_answer for qa in perturbed + kept)
    for name, count in (("real_authors_perturbed", 100), ("world_facts_perturbed", 117)):
        rows = unlearn.load_tofu(name)
        assert len(rows) == count
        assert {len(qa.perturbed_answer) for qa in rows} == {3}
    assert len(unlearn.load_refusals()) == 100
    with pytest.raises(ValueError, match="name must be one of full"):
        unlearn.load_tofu("forget10")
    with pytest.raises(ValueError, match="name must be one of full, retain90"):
        unlearn.load_tofu_logs("retain80")


@pytest.mark.parametrize(("percent", "count"), [(1, 40), (5, 200), (10, 400), (50, 2000)])
def test_splits_are_tails(percent, count):
    retain, forget = unlearn.split_indices(4000, percent)
    np.testing.assert_array_equal(forget, np.arange(4000 - count, 4000))
    np.testing.assert_array_equal(np.concatenate([retain, forget]), np.arange(4000))


@pytest.mark.parametrize("percent", [0, 100, -5, 101])
def test_splits_refuse(percent):
    with pytest.raises(ValueError, match=r"percent must lie in \(0, 100\)"):
        unlearn.split_indices(100, percent)
    with pytest.raises(ValueError, match="1 percent of 50 rows is less than one"):
        unlearn.split_indices(50, 1)


def test_encoding_scores_the_answer_and_one_end():
    tokens, labels = unlearn.encode_qa(encode, "Q", "yes", max_len=32, eos_id=0)
    assert text(tokens[:22]) == "Question: Q\nAnswer: ye"
    scored = np.flatnonzero(labels != -100)
    np.testing.assert_array_equal(scored, [20, 21, 22, 23])
    np.testing.assert_array_equal(labels[scored], [*encode("yes"), 0])
    assert (tokens[24:] == 0).all()
    assert tokens.dtype == labels.dtype == np.int32


def test_encoding_cuts_the_end_of_a_long_answer():
    tokens, labels = unlearn.encode_qa(
        encode, "Q", "abcdef", max_len=6, eos_id=0, pad_id=9, question_prefix="", answer_prefix=""
    )
    assert text(tokens) == "Q\nabcd"
    assert 0 not in labels  # the answer fills the row: no end is scored
    tokens, _ = unlearn.encode_qa(
        encode, "Q", "a", max_len=6, eos_id=0, pad_id=9, question_prefix="", answer_prefix=""
    )
    np.testing.assert_array_equal(tokens[-2:], [9, 9])


def test_encoding_never_cuts_a_prompt():
    with pytest.raises(ValueError, match="the prompt has 21 tokens, max_len is 20"):
        unlearn.encode_qa(encode, "QQ", "a", max_len=20, eos_id=0)


def test_rows_stack():
    row = unlearn.encode_qa(encode, "Q", "a", max_len=32, eos_id=0)
    assert unlearn.stack_rows([row, row]).tokens.shape == (2, 32)
    with pytest.raises(ValueError, match="no rows"):
        unlearn.stack_rows([])


def test_reads_questions(tmp_path):
    path = tmp_path / "own.jsonl"
    entries = [
        {"question": "a?", "answer": "b"},
        {
            "question": "c?",
            "answer": "d",
            "paraphrased_answer": "e",
            "perturbed_answer": ["f", "g"],
        },
    ]
    path.write_text("\n\n".join(map(json.dumps, entries)) + "\n\n")
    assert unlearn.load_qa(path) == [
        unlearn.QA("a?", "b", None, ()),
        unlearn.QA("c?", "d", "e", ("f", "g")),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ('{"question": "a", "answer": "b"}\n{"question": "a"}', r"own.jsonl:2 .*'answer'"),
        ('{"answer": "a"}', r"own.jsonl:1 .*'question'"),
        ('{"question": 1, "answer": "a"}', r"own.jsonl:1 .*'question'"),
        ("[1]", r"own.jsonl:1 must be an object"),
        ("nonsense", r"own.jsonl:1: not JSON"),
        (
            '{"question": "a", "answer": "b", "paraphrased_answer": 3}',
            "'paraphrased_answer' must be a string",
        ),
        (
            '{"question": "a", "answer": "b", "perturbed_answer": "x"}',
            "'perturbed_answer' must be a list",
        ),
        (
            '{"question": "a", "answer": "b", "perturbed_answer": 5}',
            "own.jsonl:1: field 'perturbed_answer' must be a list",
        ),
    ],
)
def test_refuses_files(content, message, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        unlearn.load_qa(path)


def test_relearning_takes_random_or_short_answers():
    lengths = [5, 3, 9, 3, 7, 3, 8, 1, 2, 6]
    key = jax.random.key(0)
    shortest = unlearn.relearn_subset(key, lengths, fraction=0.35, mode="shortest")
    np.testing.assert_array_equal(shortest, [1, 7, 8])
    drawn = unlearn.relearn_subset(key, lengths)
    assert drawn.dtype == np.int64
    assert len(set(drawn)) == 2
    assert sorted(drawn) == list(drawn)
    assert len(unlearn.relearn_subset(key, [4, 4], fraction=0.2)) == 1
    draws = {tuple(unlearn.relearn_subset(jax.random.key(i), lengths)) for i in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0}, r"fraction must lie in \(0, 1\], got 0"),
        ({"fraction": 1.1}, r"fraction must lie in \(0, 1\], got 1.1"),
        ({"mode": "longest"}, "mode must be one of random, shortest"),
    ],
)
def test_relearning_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        unlearn.relearn_subset(jax.random.key(0), [1, 2], **changes)
    with pytest.raises(ValueError, match="lengths is empty"):
        unlearn.relearn_subset(jax.random.key(0), [])
