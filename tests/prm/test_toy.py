import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm

_ROOT = re.compile(r"(\w+) has (\d+) (\w+)\.")
_LINK = re.compile(r"(\w+) has (\d+) (more|fewer|times as many) (\w+) (?:than|as) (\w+)\.")
_QUESTION = re.compile(r"How many (\w+) does (\w+) have\?")


def solve(problem):
    """The asked person's number, from the sentences alone."""
    values, links = {}, {}
    *facts, question = re.split(r"(?<=[.?]) ", problem)
    for fact in facts:
        if root := _ROOT.fullmatch(fact):
            values[root[1]] = int(root[2])
        else:
            name, b, relation, _, source = _LINK.fullmatch(fact).groups()
            links[name] = (relation, int(b), source)
    assert len(values) == 1

    def value(name):
        if name in values:
            return values[name]
        relation, b, source = links[name]
        start = value(source)
        return {"more": start + b, "fewer": start - b, "times as many": start * b}[relation]

    return value(_QUESTION.fullmatch(question)[2]), {n: value(n) for n in [*values, *links]}


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 99), st.integers(1, 9))
def test_the_sentences_determine_the_steps(seed, ops, max_value, max_operand):
    config = prm.ToyConfig(ops, ops, max_value, max_operand)
    d = prm.toy_problem(np.random.default_rng(seed), config)
    answer, values = solve(d.problem)
    assert str(answer) == d.answer == d.steps[-1].answer
    assert d.problem.endswith(d.steps[-1].question)
    assert all(1 <= v <= max_value for v in values.values())
    assert len(values) == len(d.steps)
    for step in d.steps:
        name = _QUESTION.fullmatch(step.question)[2]
        assert int(step.answer) == values[name]
        assert step.solution.startswith(f"{name} has ")
        assert all(prm.check_calculator(step.solution, 0))
    assert [len(prm.calculator_annotations(s.solution)) for s in d.steps] == [0] + [1] * (
        len(d.steps) - 1
    )


def test_same_state_same_problem_and_lengths_are_uniform():
    first, again = (prm.toy_problem(np.random.default_rng(5)) for _ in range(2))
    assert first == again
    rng = np.random.default_rng(0)
    bare = prm.ToyConfig(2, 4, distractor_prob=0)
    lengths = [len(prm.toy_problem(rng, bare).steps) - 1 for _ in range(600)]
    counts = np.bincount(lengths, minlength=5)[2:]
    assert counts.sum() == 600
    assert (abs(counts - 200) < 50).all()


def test_unshuffled_problems_tell_the_steps_in_order():
    config = prm.ToyConfig(3, 3, distractor_prob=1.0, shuffle=False)
    d = prm.toy_problem(np.random.default_rng(1), config)
    names = re.findall(r"(?:^|\. )(\w+) has", d.problem)
    assert names == [_QUESTION.fullmatch(step.question)[2] for step in d.steps]
    assert len(names) == 1 + 2 + 2 + 1  # the root, two links with siblings, the last


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_ops": 0}, "need 1 <= min_ops <= max_ops <= 6, got min_ops 0, max_ops 4"),
        ({"min_ops": 3, "max_ops": 2}, "got min_ops 3, max_ops 2"),
        ({"max_ops": 7}, "got min_ops 2, max_ops 7"),
        ({"max_value": 1}, "need max_value >= 2"),
        ({"max_operand": 0}, "max_operand >= 1"),
        ({"distractor_prob": 1.5}, "distractor_prob must lie in"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        prm.ToyConfig(**settings)
