import gzip
import json

import pytest

from jaxlab.text_files import read_json, read_json_lines, read_text


def test_packed_and_plain_files_read_alike(tmp_path):
    text = '{"a": "é"}\n'
    (tmp_path / "plain.json").write_bytes(text.encode())
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain.json", "packed.json.gz"):
        assert read_text(tmp_path / name) == text
        assert read_json(str(tmp_path / name)) == {"a": "é"}


def test_a_line_ends_with_a_newline_alone(tmp_path):
    path = tmp_path / "own.jsonl"
    entry = {"question": "a\u2028b\u2029c?", "answer": "d\x85e"}  # str.splitlines breaks at these
    line = json.dumps(entry, ensure_ascii=False)
    path.write_text(f"{line}\r\n\n{line}\n", encoding="utf-8", newline="")
    assert list(read_json_lines(path)) == [(f"{path}:1", entry), (f"{path}:3", entry)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.json", b'[\n{"a": }]', r"own.json:2: not JSON: Expecting value"),
        ("own.json", b"", r"own.json:1: not JSON"),
        ("own.json", "é".encode("latin-1"), r"own.json is not UTF-8 text .*convert it first"),
        ("own.json.gz", b"[]", r"own.json.gz is not a whole gzip file"),
        ("own.json.gz", gzip.compress(b"[1, 2, 3]")[:-9], r"own.json.gz is not a whole gzip file"),
        ("own.json.gz", gzip.compress(b"[]")[:10] + b"\xff" * 9, r"is not a whole gzip file"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / name)


def test_names_the_line_of_a_fault(tmp_path):
    (tmp_path / "own.jsonl").write_text('{}\n\n{"a"\n')
    with pytest.raises(ValueError, match=r"own.jsonl:3: not JSON"):
        list(read_json_lines(tmp_path / "own.jsonl"))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read_json(tmp_path / "nothing.json")
