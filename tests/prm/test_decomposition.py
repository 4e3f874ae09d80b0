import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm

EPSILONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.8, 1.0)


@pytest.fixture(scope="module")
def real():
    rows = prm.load_gsm8k(prm.problem_set("gsm8k_test_socratic"))
    return [prm.parse_socratic(*row) for row in rows]


def test_parses_every_socratic_row(real):
    plain = prm.load_gsm8k(prm.problem_set("gsm8k_test"))
    assert len(real) == len(plain) == 1319
    for d, (question, solution) in zip(real, plain, strict=True):
        assert d.problem == question
        lines = [line.strip() for line in solution.split("\n")]
        assert [step.solution for step in d.steps] == lines[:-1]
        assert d.answer == prm.extract_answer(solution)


def test_natural_granularity_of_gsm8k(real):
    natural = np.array([np.mean(prm.contributing_steps(d)) for d in real])
    assert natural.mean() == pytest.approx(0.906, abs=5e-4)
    assert np.mean(natural == 1) == pytest.approx(0.738, abs=5e-4)


@pytest.mark.parametrize("mode", ["merge", "drop"])
def test_invariants_on_real_problems(real, mode):
    for d in real:
        text = "\n".join(step.solution for step in d.steps)
        contributes = prm.contributing_steps(d)
        assert contributes[-1]
        kept_before = set()
        for epsilon in EPSILONS:
            coarse = prm.set_granularity(d, epsilon, mode)
            count = max(1, math.floor(epsilon * len(d.steps) + 0.5))
            assert len(coarse.steps) == count
            assert prm.granularity(coarse, d) == count / len(d.steps)
            questions = [step.question for step in coarse.steps]
            assert questions[-1] == d.steps[-1].question
            solutions = "\n".join(step.solution for step in coarse.steps)
            if mode == "merge":
                assert solutions == text
            else:
                for step, needed in zip(d.steps, contributes, strict=True):
                    assert not needed or step.solution in solutions
            kept = set(questions)
            assert kept_before <= kept or len({q.question for q in d.steps}) < len(d.steps)
            kept_before = kept
        assert prm.set_granularity(d, 1.0, mode) == d


def test_rounds_half_up_and_removes_idle_steps_first():
    steps = [
        prm.Step("a?", "a is 5+1=<<5+1=6>>6", "6"),
        prm.Step("b?", "b is 5+2=<<5+2=7>>7", "7"),  # nothing uses it
        prm.Step("c?", "c is 6+2=<<6+2=8>>8", "8"),
        prm.Step("d?", "d is 8+1=<<8+1=9>>9", "9"),
    ]
    d = prm.Decomposition("There are 5. d?", tuple(steps), "9")
    assert prm.contributing_steps(d) == (True, False, True, True)
    three = prm.set_granularity(d, 0.625)  # 2.5 rounds to 3
    assert [s.question for s in three.steps] == ["a?", "c?", "d?"]
    assert three.steps[1].solution == f"{steps[1].solution}\n{steps[2].solution}"
    assert three.steps[1].answer == "8"
    dropped = prm.set_granularity(d, 0.5, "drop")
    assert [s.question for s in dropped.steps] == ["c?", "d?"]
    assert dropped.steps[0].solution == f"{steps[0].solution}\n{steps[2].solution}"


def test_what_contributes():
    def steps(*rows):
        return tuple(prm.Step("?", text, answer) for text, answer in rows)

    given = prm.Decomposition("He has 6 and 2.", steps(("6", "6"), ("6+2=8", "8")), "8")
    assert prm.contributing_steps(given) == (False, True)  # 6 stands in the problem
    repeated = steps(("1+3=4", "4"), ("2+2=4", "4"), ("4*2=8", "8"))
    assert prm.contributing_steps(prm.Decomposition("?", repeated, "8")) == (True, False, True)
    words = steps(("blue", None), ("so 8", "8"))
    assert prm.contributing_steps(prm.Decomposition("?", words, "8")) == (False, True)


def test_step_answers():
    d = prm.parse_socratic("q", "a ** x <<1+1=2>>2 of 9\nb ** it is 1,200.\nc ** none\n#### 5")
    assert [step.answer for step in d.steps] == ["2", "1,200", None]
    split = prm.parse_socratic("q", "a ** b ** c\n#### 5").steps[0]
    assert (split.question, split.solution) == ("a", "b ** c")


@given(st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_toy_rows_are_read_back(seed, ops, shuffle):
    config = prm.ToyConfig(min_ops=1, max_ops=ops, max_value=12, max_operand=6, shuffle=shuffle)
    d = prm.toy_problem(np.random.default_rng(seed), config)
    assert prm.parse_socratic(**prm.to_socratic(d)) == d


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("a ** b", "the last line must be '#### value', got 'a \\*\\* b'"),
        ("a ** b\n####", "the last line must be"),
        ("", "the last line must be"),
        ("#### 5", "no step before '#### 5'"),
        ("a b\n#### 5", "a step is .*got 'a b'"),
    ],
)
def test_refuses_rows(answer, message):
    with pytest.raises(ValueError, match=message):
        prm.parse_socratic("q", answer)


def test_refuses_settings():
    d = prm.parse_socratic("q", "a ** 1\n#### 1")
    for epsilon in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 1\], got"):
            prm.set_granularity(d, epsilon)
    with pytest.raises(ValueError, match="mode must be one of merge, drop, got 'cut'"):
        prm.set_granularity(d, 0.5, "cut")
    with pytest.raises(ValueError, match="no steps"):
        prm.set_granularity(d._replace(steps=()), 0.5)
    with pytest.raises(TypeError, match="expected a string"):
        prm.parse_socratic("q", None)


def test_prompts():
    step = prm.Step("x?", "x is 3", "3")
    assert prm.qd_prompt("P", 0.5) == "P\n<EPS> 0.50\n<QD>"
    with_next = prm.qa_prompt("P", [step], "y?", "z?")
    assert with_next == "<PRE> y? <SUF> z? <MID> P\nx is 3\n"
    assert prm.qa_prompt("P", [], "y?") == "<PRE> y? <SUF> <END> <MID> P\n"
    assert prm.qa_prompt("P", [], "y?", "z?", cgd=False) == "<PRE> y? <MID> P\n"


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("Ada has more pens than Ben: Yes.", "yes"),
        ("so, no", "no"),
        ("yes, 3 of them", "3"),  # a number counts for more than a word
        ("there is a piano", None),
        ("no pens are left", None),
    ],
)
def test_a_closing_yes_or_no_is_an_answer(solution, answer):
    d = prm.parse_socratic("q", f"who? ** {solution}\n#### 1")
    assert d.steps[0].answer == answer
