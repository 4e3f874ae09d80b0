import json

import numpy as np
import pytest

from jaxlab import unlearn
from jaxlab.unlearn.muse import cut_answer


def write_folder(folder):
    for kind in ("raw", "verbmem", "knowmem", "privleak"):
        (folder / kind).mkdir(parents=True)
    for name in ("forget", "retain1", "retain2", "holdout"):
        (folder / "raw" / f"{name}.txt").write_text(f"text of {name}")
    (folder / "verbmem" / "forget.json").write_text(json.dumps([{"prompt": "a", "gt": "b"}]))
    for name in ("forget", "retain"):
        for end in ("qa", "qa_icl"):
            rows = [{"question": f"{name} {end}?", "answer": "yes"}]
            (folder / "knowmem" / f"{name}_{end}.json").write_text(json.dumps(rows))
    for name in ("forget", "retain", "holdout"):
        (folder / "privleak" / f"{name}.json").write_text(json.dumps([name, "more"]))
    return folder


def test_reads_a_folder(tmp_path):
    corpus = unlearn.load_muse(write_folder(tmp_path))
    assert corpus.raw["retain2"] == "text of retain2"
    assert corpus.verbmem == [("a", "b")]
    assert corpus.knowmem["forget"] == [unlearn.QA("forget qa?", "yes")]
    assert corpus.knowmem_icl["retain"][0].question == "retain qa_icl?"
    assert corpus.privleak["holdout"] == ["holdout", "more"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("verbmem/forget.json", "[]", "must be a list that is not empty"),
        ("verbmem/forget.json", "{", "forget.json:1: not JSON"),
        ("verbmem/forget.json", '[{"prompt": "a"}]', "entry 0, must be an object with prompt, gt"),
        ("privleak/forget.json", "[1]", "must be a list of texts"),
    ],
)
def test_refuses_files(name, content, message, tmp_path):
    (write_folder(tmp_path) / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        unlearn.load_muse(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    (write_folder(tmp_path) / "knowmem" / "retain_qa.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"retain_qa\.json"):
        unlearn.load_muse(tmp_path)


def test_chunks_fill_the_last_row_from_the_first():
    rows = unlearn.chunk_text(lambda text: [ord(c) for c in text], "abcde", max_len=4, bos_id=1)
    expected = [[1, *map(ord, "abc")], [1, *map(ord, "dea")]]
    np.testing.assert_array_equal(rows.tokens, expected)
    np.testing.assert_array_equal(rows.labels, rows.tokens)
    plain = unlearn.chunk_text(lambda text: [ord(c) for c in text], "abcd", max_len=2)
    np.testing.assert_array_equal(plain.tokens, [list(map(ord, "ab")), list(map(ord, "cd"))])
    with pytest.raises(ValueError, match="no tokens"):
        unlearn.chunk_text(lambda text: [], "", max_len=4)
    with pytest.raises(ValueError, match="max_len must be >= 2"):
        unlearn.chunk_text(lambda text: [1], "a", max_len=1)


def test_memories_are_f1_without_stems():
    assert unlearn.verbatim_memory(["a b c d"], ["a b"]) == pytest.approx(100 * 2 / 3)
    assert unlearn.verbatim_memory(["running"], ["runs"]) == 0
    assert unlearn.knowledge_memory(["yes"], ["yes\n\nQuestion: more?"]) == 100
    with pytest.raises(ValueError, match="got 0 and 1"):
        unlearn.verbatim_memory(["a"], [])


def test_answers_end_where_the_next_question_begins():
    for end in ("\n\nmore", "\nQuestion: b", " Question: c"):
        assert cut_answer("  yes" + end) == "yes"
    prompt = unlearn.knowledge_prompt("b?", [unlearn.QA("a?", "x")])
    assert prompt == "Question: a?\nAnswer: x\n\nQuestion: b?\nAnswer: "
