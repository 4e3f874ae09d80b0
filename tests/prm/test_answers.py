import gzip
import json

import pytest

from jaxlab import prm


@pytest.mark.parametrize(
    ("style", "text", "answer"),
    [
        ("gsm8k", "He has 5.\n#### 1,234\n", "1,234"),
        ("gsm8k", "#### 18\nQuestion: more\n#### 99", "18"),
        ("gsm8k", "####18", "18"),
        ("gsm8k", "so #### -5 dollars", "-5 dollars"),
        ("gsm8k", "no marker 5", None),
        ("gsm8k", "####  \n7", None),
        ("sample", "A: 3\nthen\nA: 4\nThe A: 5", "4"),
        ("sample", "x A: 3", None),
        ("boxed", r"so \boxed{\frac{1}{2}} or \boxed{3", r"\frac{1}{2}"),
        ("boxed", r"\fbox{7} then \boxed{x+{y}}", "x+{y}"),
        ("boxed", r"\boxed{}", None),
        ("last_number", "it was -$3.25, then", "-$3.25"),
        ("last_number", "10-3", "3"),
        ("last_number", "1,200, of them", "1,200"),
        ("last_number", "none", None),
        ("yes_no", "Yes. No! It is TRUE", "yes"),
        ("yes_no", "nothing known", None),
        ("yes_no", "yesterday no", "no"),
    ],
)
def test_extracts(style, text, answer):
    assert prm.extract_answer(text, style) == answer


@pytest.mark.parametrize(
    ("prediction", "gold", "style", "correct"),
    [
        ("#### 1,200", "1200", "gsm8k", True),
        ("#### $18.00", "18", "gsm8k", True),
        ("#### 18", "18.5", "gsm8k", False),
        ("#### -5", "5", "gsm8k", False),
        ("#### Paris", "paris", "gsm8k", True),
        ("18", "18", "gsm8k", False),
        ("A: 0.5", "1/2", "sample", True),
        (r"\boxed{\dfrac12}", r"\frac{1}{2}", "boxed", True),
        (r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", "boxed", False),
        ("so it is false", "No", "yes_no", True),
        ("so it is false", "true", "yes_no", False),
        ("they are 7 and 8", "8", "last_number", True),
    ],
)
def test_correct(prediction, gold, style, correct):
    assert prm.is_correct(prediction, gold, style) == correct


def test_agrees_with_the_published_labels_of_5276_solutions():
    path = prm.problem_set("gsm8k_model_solutions")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    counts = {}
    for model in ("6b_finetuning", "175b_finetuning", "6b_verification", "175b_verification"):
        ours = [
            prm.is_correct(
                row[model]["solution"],
                prm.extract_answer(row["ground_truth"], "sample"),
                "sample",
            )
            for row in rows
        ]
        assert ours == [row[model]["is_correct"] for row in rows]
        counts[model] = sum(ours)
    assert list(counts.values()) == [286, 458, 515, 742]


def test_every_gold_answer_of_gsm8k_is_a_number():
    for _, solution in prm.load_gsm8k(prm.problem_set("gsm8k_train")):
        gold = prm.extract_answer(solution)
        assert prm.parse_number(gold).denominator == 1
        assert prm.is_correct(solution, gold)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: prm.extract_answer("x", "latex"),
            ValueError,
            "style must be one of gsm8k, .*'latex'",
        ),
        (lambda: prm.extract_answer(None), TypeError, "expected a string, got NoneType"),
        (lambda: prm.is_correct("#### 3", " "), ValueError, "gold is blank"),
        (lambda: prm.is_correct("#### 3", 3), TypeError, "expected a string, got int"),
        (lambda: prm.is_correct("yes", "maybe", "yes_no"), ValueError, "gold must be .*'maybe'"),
        (lambda: prm.is_correct("yes", "3", "roman"), ValueError, "style must be one of"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
