import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("\\frac12", r"\frac{1}{2}"),
        ("\\frac1{72}", r"\frac{1}{72}"),
        ("\\frac{3}{4}", r"\frac{3}{4}"),
        ("\\tfrac{3}4", r"\frac{3}4"),
        ("\\dfrac{3}{4}", r"\frac{3}{4}"),
        ("\\sqrt3", r"\sqrt{3}"),
        ("2\\sqrt{5}", r"2\sqrt{5}"),
        ("\\sqrt[3]{2}", r"\sqrt[3]{2}"),
        ("0.5", r"\frac{1}{2}"),
        (".5", r"\frac{1}{2}"),
        ("3/4", r"\frac{3}{4}"),
        ("-3/4", r"\frac{-3}{4}"),
        ("a/b", "a/b"),
        ("k=5", "5"),
        ("k = 5", "5"),
        ("abc=5", "abc=5"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("\\$25", "25"),
        ("50\\%", "50"),
        ("5 \\text{ cm}", "5"),
        ("\\left( 1, 2 \\right)", "(1,2)"),
        ("1\\!000\n", "1000"),
        ("x + .5", "x+0.5"),
        ("", ""),
        ("\\frac", "\\frac"),
        ("\\sqrt", "\\sqrt"),
    ],
)
def test_rules(text, normal):
    assert prm.normalize_math(text) == normal


@given(st.text(alphabet="\\{}frac sqt12/=.%$^text", max_size=30))
def test_never_raises(text):
    assert isinstance(prm.normalize_math(text), str)
