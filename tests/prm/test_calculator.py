import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm


def _expressions():
    leaves = st.integers(0, 99).map(str)

    def extend(inner):
        binary = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//"]), inner)
        return st.one_of(
            binary.map("".join),
            inner.map(lambda x: f"({x})"),
            inner.map(lambda x: f"-{x}"),
        )

    return st.recursive(leaves, extend, max_leaves=12)


@given(_expressions())
def test_precedence_is_that_of_python(expression):
    # Python's own parser is the reference, over exact literals.
    exact = re.sub(r"[0-9]+", lambda m: f"Fraction({m[0]})", expression)
    if len(expression) > 200:
        return
    try:
        want = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            prm.calculate(expression)
        return
    assert prm.calculate(expression) == want


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1+0.2", Fraction(3, 10)),
        ("$1,000 * 2", 2000),
        ("5%", Fraction(1, 20)),
        ("50%*10", 5),
        ("-7//2", -4),
        ("5. + .5", Fraction(11, 2)),
        ("2--3", 5),
        ("(1+2)*(3-4)", -3),
    ],
)
def test_values(expression, value):
    assert prm.calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "x",
        "2**3",
        "[1]",
        "1;2",
        "1/0",
        "3//0",
        "(1",
        "1)",
        "1 2",
        "1+",
        "*3",
        "5%3",
        "1" * 201,
        "__import__('os')",
        "1=1",
        "2^3",
        "1.2.3",
        "()",
        "%",
    ],
)
def test_refuses(expression):
    with pytest.raises(ValueError, match=r"\S"):
        prm.calculate(expression)


def test_names_the_expression():
    with pytest.raises(ValueError, match="cannot calculate '3 apples': 'a'"):
        prm.calculate("3 apples")


def test_annotations():
    text = "48/2 = <<48/2=24>>24 clips and <<24+1=26>>26, <<a=1>>1 and <<1/3=0.33>>."
    assert prm.calculator_annotations(text)[:2] == (("48/2", "24"), ("24+1", "26"))
    assert prm.check_calculator(text) == (True, False, False, True)
    assert prm.check_calculator(text, Fraction(0)) == (True, False, False, False)
    assert prm.strip_calculator(text) == "48/2 = 24 clips and 26, 1 and ."


def test_every_annotation_of_gsm8k_is_exact():
    checked = [
        ok
        for name in ("gsm8k_train", "gsm8k_test")
        for _, solution in prm.load_gsm8k(prm.problem_set(name))
        for ok in prm.check_calculator(solution, Fraction(0))
    ]
    assert len(checked) == 27_998
    assert all(checked)


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("so <<48/2=", "24>>"),
        ("so <<1/3=", "0.3333333333>>"),
        ("so <<48/2=24>>", None),
        ("so 48/2=", None),
        ("so <<1/0=", None),
        ("so <<x=", None),
        ("so <<48/2=\n", None),
        ("", None),
    ],
)
def test_completes_an_open_call(text, added):
    assert prm.complete_calculator(text) == added
