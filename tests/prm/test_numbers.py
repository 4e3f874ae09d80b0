from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,200.", 1200),
        ("-$3.25", Fraction(-13, 4)),
        ("$-3.25", Fraction(-13, 4)),
        ("18 dollars", 18),
        ("18 dollars.", 18),
        ("25%", 25),
        ("3/4", Fraction(3, 4)),
        ("-3/4.", Fraction(-3, 4)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+7", 7),
        ("\u22125", -5),
        ("  8 ", 8),
        ("€1,0,0", 100),
        ("3km", 3),
    ],
)
def test_parses(text, value):
    assert prm.parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "abc", "1e3", "3/0", "1 2", "--3", "-$-3", "12:30", "1.2.3", "$", "3//4", "5 + 3", "x5"],
)
def test_is_no_number(text):
    assert prm.parse_number(text) is None


def test_long_runs_of_spaces_cost_nothing():
    assert prm.parse_number("-" + " " * 100_000 + "x") is None
    assert prm.parse_number("- $" + "\n" * 100_000 + "3") == -3


@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4))
def test_a_printed_number_is_read_back_to_ten_decimals(value):
    printed = prm.format_number(value)
    assert abs(prm.parse_number(printed) - value) <= Fraction(1, 2 * 10**10)
    assert not printed.endswith(".")
    assert "." not in printed or not printed.endswith("0")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (Fraction(-1, 4), "-0.25"),
        (Fraction(1, 3), "0.3333333333"),
        (0.5, "0.5"),
        (Fraction(-1, 10**12), "0"),
        (1200, "1200"),
    ],
)
def test_format(value, text):
    assert prm.format_number(value) == text


def test_numbers_in_text():
    assert prm.numbers_in("He paid $1,200.50 for 3, then .5 of 12.") == (
        Fraction(2401, 2),
        3,
        Fraction(1, 2),
        12,
    )
    assert prm.numbers_in("none") == ()


@pytest.mark.parametrize("function", [prm.parse_number, prm.numbers_in])
def test_wants_text(function):
    with pytest.raises(TypeError, match="expected a string, got int 3"):
        function(3)
