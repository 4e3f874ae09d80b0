import gzip
import hashlib
import json
import re

import numpy as np
import pytest

from jaxlab import prm


def test_shipped_files_are_the_published_ones():
    table = (prm.problem_set("svamp").parent / "README.md").read_text()
    rows = re.findall(r"\| `(\S+)` \| (\d+) \|.*\| ([0-9a-f]{64}) \|", table)
    assert len(rows) == 6
    for name, _, digest in rows:
        with gzip.open(prm.problem_set("svamp").parent / name) as file:
            assert hashlib.sha256(file.read()).hexdigest() == digest


def test_loads_the_shipped_sets():
    assert len(prm.load_gsm8k(prm.problem_set("gsm8k_train"))) == 7473
    svamp = prm.load_svamp(prm.problem_set("svamp"))
    assert len(svamp) == 1000
    assert svamp[0][1] == "51"
    assert svamp[0][0].endswith("on each pack. How much do you have to pay to buy each pack?")
    strategy = prm.load_strategyqa(prm.problem_set("strategyqa"))
    assert len(strategy) == 2290
    assert np.mean([answer == "yes" for _, answer in strategy]) == pytest.approx(0.468, abs=5e-4)
    steps = [
        len(d.steps) for d in prm.load_strategyqa_decompositions(prm.problem_set("strategyqa"))
    ]
    assert np.bincount(steps).tolist() == [0, 18, 626, 1219, 342, 85]


def test_strategyqa_without_decompositions(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('[{"question": "Is it?", "answer": true}]')
    assert prm.load_strategyqa(path) == [("Is it?", "yes")]
    with pytest.raises(ValueError, match="row 0: no field 'decomposition'"):
        prm.load_strategyqa_decompositions(path)


def test_facts_of_strategyqa_are_solutions():
    first, second = prm.load_strategyqa_decompositions(prm.problem_set("strategyqa"), facts=True)[
        :2
    ]
    assert [step.answer for step in first.steps] == [None, None, "yes"]
    assert first.steps[0].solution == "Julius Caesar had three children."
    assert first.steps[2].solution.startswith("Modern geneticists")
    assert second.steps[-1].answer == second.answer


def test_gsm8k_lines(tmp_path):
    rows = [{"question": "q\u2019", "answer": "a\n#### 1"}, {"question": "r", "answer": "#### 2"}]
    text = "\n\n".join(json.dumps(row) for row in rows) + "\n\n"
    plain, packed = tmp_path / "x.jsonl", tmp_path / "x.jsonl.gz"
    plain.write_text(text, encoding="utf-8")
    with gzip.open(packed, "wt", encoding="utf-8") as file:
        file.write(text)
    want = [("q\u2019", "a\n#### 1"), ("r", "#### 2")]
    assert prm.load_gsm8k(plain) == prm.load_gsm8k(packed) == want


def test_math_folder(tmp_path):
    for subject, number in (("algebra", 10), ("algebra", 2), ("geometry", 1)):
        folder = tmp_path / "train" / subject
        folder.mkdir(parents=True, exist_ok=True)
        row = {"problem": f"{subject} {number}", "solution": "\\boxed{3}", "level": "Level 1"}
        (folder / f"{number}.json").write_text(json.dumps(row))
    pairs = prm.load_math(tmp_path / "train")
    assert [problem for problem, _ in pairs] == ["algebra 2", "algebra 10", "geometry 1"]


def test_asdiv(tmp_path):
    path = tmp_path / "asdiv.xml"
    path.write_text(
        "<R><ProblemSet><Problem ID='1'><Body>He has 4.</Body><Question>How many?</Question>"
        "<Answer>9 (apples)</Answer><Formula>4+5=9</Formula></Problem></ProblemSet></R>"
    )
    assert prm.load_asdiv(path) == [("He has 4. How many?", "9")]


def test_stepwise(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"prompt": "p", "completions": ["a", "b"], "labels": [true, false]}\n')
    (row,) = prm.load_stepwise(path)
    assert (row.prompt, row.steps) == ("p", ("a", "b"))
    np.testing.assert_array_equal(row.labels, np.float32([1, 0]))


@pytest.mark.parametrize(
    ("loader", "text", "message"),
    [
        (prm.load_gsm8k, '{"question": "q", "answer": "a"}\n{"question"', r":2: not JSON"),
        (prm.load_gsm8k, '\n{"question": "q"}', r":2: no field 'answer'"),
        (prm.load_gsm8k, '{"question": 3, "answer": "a"}', r":1: question is a int: 3"),
        (prm.load_gsm8k, "[1]", r":1: no field 'question'"),
        (prm.load_svamp, "{}", r":1: expected a list, got dict"),
        (prm.load_svamp, '[{"Body": "b"}]', r"row 0: no field 'Answer'"),
        (prm.load_strategyqa, '[\n{"question": }]', r":2: not JSON"),
        (prm.load_asdiv, "<R><Problem>", r":1: broken XML"),
        (prm.load_asdiv, "<R><Problem ID='7'><Body>b</Body></Problem></R>", "7 has no Question"),
        (
            prm.load_stepwise,
            '{"prompt": "p", "completions": ["a"], "labels": [1, 0]}',
            r":1: 1 steps but labels of shape \(2,\)",
        ),
        (
            prm.load_stepwise,
            '{"prompt": "p", "completions": ["a"], "labels": [-100]}',
            r"labels must lie in \[0, 1\]",
        ),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, loader, text, message):
    path = tmp_path / "rows"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        loader(path)


@pytest.mark.parametrize(
    "loader", [prm.load_gsm8k, prm.load_svamp, prm.load_strategyqa, prm.load_math, prm.load_asdiv]
)
def test_missing_files(tmp_path, loader):
    with pytest.raises(FileNotFoundError):
        loader(tmp_path / "nothing")


def test_unknown_set():
    with pytest.raises(ValueError, match=r"name must be one of gsm8k_train, .*'gsm9k'"):
        prm.problem_set("gsm9k")
