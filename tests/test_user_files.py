import gzip
import json

import numpy as np
import pytest

from jaxlab.user_files import read_arrays, read_json, read_json_lines, read_text


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


def test_arrays_by_name(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, a=np.arange(3), b=np.ones(2), other=np.array([None]))
    assert set(read_arrays(path, ("a",), ("b", "c"))) == {"a", "b"}
    np.testing.assert_array_equal(read_arrays(path, ("a",))["a"], [0, 1, 2])
    with pytest.raises(ValueError, match=r"own.npz has no array c, d; it holds a, b, other"):
        read_arrays(path, ("a", "c", "d"))
    with pytest.raises(ValueError, match=r"own.npz is not a whole .npz file"):
        read_arrays(path)  # an object would have to be unpickled


@pytest.mark.parametrize("keep", [0, 10, -40])
def test_damaged_arrays_are_named(tmp_path, keep):
    whole, path = tmp_path / "whole.npz", tmp_path / "own.npz"
    np.savez_compressed(whole, a=np.random.default_rng(0).normal(size=100))
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"own.npz is not a whole .npz file"):
        read_arrays(path, ("a",))


def test_an_array_of_its_own_is_no_file_of_arrays(tmp_path):
    np.save(tmp_path / "own.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"own.npy is not a whole .npz file"):
        read_arrays(tmp_path / "own.npy", ("a",))
