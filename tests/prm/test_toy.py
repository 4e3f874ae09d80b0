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


def test_siblings_may_have_descendants():
    config = prm.ToyConfig(3, 3, distractor_prob=1.0, descendants=True)
    d = prm.toy_problem(np.random.default_rng(1), config)
    answer, values = solve(d.problem)
    assert str(answer) == d.answer
    assert len(values) == 1 + 2 * (1 + 2) + 1  # the root, two links with siblings, the last
    names = [_QUESTION.fullmatch(step.question)[2] for step in d.steps]
    links = {m[1]: m[5] for m in map(_LINK.fullmatch, re.split(r"(?<=[.?]) ", d.problem)) if m}
    for sibling, child, person, source in ((1, 2, 3, 0), (4, 5, 6, 3)):
        assert links[names[child]] == names[sibling]
        assert links[names[sibling]] == links[names[person]] == names[source]


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_comparisons_follow_from_the_sentences(seed, ops):
    config = prm.ToyConfig(ops, ops, 12, 6, compare=True)
    d = prm.toy_problem(np.random.default_rng(seed), config)
    facts, question = re.fullmatch(r"(.*\.) (Does .*)", d.problem).groups()
    one, item, other = re.fullmatch(r"Does (\w+) have more (\w+) than (\w+)\?", question).groups()
    _, values = solve(f"{facts} How many {item} does {one} have?")
    assert d.answer == ("yes" if values[one] > values[other] else "no")
    assert d.steps[-1].question == question
    assert prm.is_correct(d.steps[-1].solution, d.answer, "yes_no")
    assert prm.parse_socratic(**prm.to_socratic(d)) == d
    links = {m[1]: m[5] for m in map(_LINK.fullmatch, re.split(r"(?<=\.) ", facts)) if m}
    assert one not in (links.get(other), other)
    assert other != links.get(one)
    last = _QUESTION.fullmatch(d.steps[-2].question)[2]
    assert last in (one, other)


def test_either_of_two_compared_persons_is_named_first():
    rng, config = np.random.default_rng(0), prm.ToyConfig(2, 4, 12, 6, compare=True)
    drawn = [prm.toy_problem(rng, config) for _ in range(300)]
    first = [d.problem.split("Does ")[1].split()[0] in d.steps[-2].question for d in drawn]
    assert 0.4 < np.mean(first) < 0.6
    assert 0.4 < np.mean([d.answer == "yes" for d in drawn]) < 0.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_ops": 0}, "need 1 <= min_ops <= max_ops <= 6, got min_ops 0, max_ops 4"),
        ({"min_ops": 3, "max_ops": 2}, "got min_ops 3, max_ops 2"),
        ({"max_ops": 7}, "got min_ops 2, max_ops 7"),
        ({"max_value": 1}, "need max_value >= 2"),
        ({"max_operand": 0}, "max_operand >= 1"),
        ({"min_ops": 1, "compare": True}, "compare needs min_ops >= 2, got 1"),
        ({"distractor_prob": 1.5}, "distractor_prob must lie in"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        prm.ToyConfig(**settings)
