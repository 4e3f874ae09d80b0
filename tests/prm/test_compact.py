import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import prm
from jaxlab.prm import compact
from jaxlab.prm.studies.config import BRANCH_TOY, COMPARE_TOY, ROW_TOKENS, TOY
from jaxlab.prm.studies.problems import PROMPT_TOKENS, most_steps

seeds = st.integers(0, 10**6)


def value_of(plan):
    """Every person's number, calculated from the facts in tokens."""
    words = compact.describe(plan.problem).split()
    facts = {}
    position = 0
    while words[position] != "?":
        if words[position + 1] == "has":
            facts[words[position]] = ("", int(words[position + 2]), "")
            position += 3
        else:
            target, operator, operand, source = words[position : position + 4]
            facts[target] = (operator, int(operand), source)
            position += 4

    def value(name):
        operator, operand, source = facts[name]
        if not source:
            return operand
        start = value(source)
        return {"+": start + operand, "-": start - operand, "*": start * operand}[operator]

    return value, facts, words[position + 1]


@given(seeds, st.sampled_from(compact.EPSILONS), st.booleans())
def test_tokens_hold_the_problem_and_right_solutions(seed, epsilon, ambiguous):
    full = prm.toy_problem(np.random.default_rng(seed), TOY)
    d = compact.coarsen(full, epsilon)
    plan = compact.encode(full, d, ambiguous=ambiguous)
    value, facts, asked = value_of(plan)
    assert value(asked) == int(full.answer)
    solved = {}
    for ids, answer, clauses in zip(plan.solutions, plan.answers, plan.clauses, strict=True):
        words = compact.describe(ids).split()
        assert words.pop() == ";"
        for _ in range(clauses):
            if words[1] == "has":
                name, _, number = words[:3]
                words = words[3:]
            else:
                name, operator, operand, source, before, again, number = words[:7]
                assert (name, facts[name]) == (again, (operator, int(operand), source))
                assert int(before) == value(source)
                words = words[7:]
            assert int(number) == value(name)
            solved[name] = int(number)
        assert not words
        assert answer == compact.number_id(int(number))
    assert compact.describe(plan.solutions[-1]).split()[0] in facts
    assert solved[asked] == int(full.answer)


@given(seeds, st.sampled_from(compact.EPSILONS))
def test_coarsening_keeps_the_chain_and_the_number_of_steps(seed, epsilon):
    full = prm.toy_problem(np.random.default_rng(seed), TOY)
    d = compact.coarsen(full, epsilon)
    assert len(d.steps) == len(prm.set_granularity(full, epsilon).steps)
    plan = compact.encode(full, compact.coarsen(full, 0.0))
    _, facts, name = value_of(plan)
    chain = []
    while name:
        chain.append(name)
        name = facts[name][2]
    lines = [line.split(" ")[0] for step in d.steps for line in step.solution.split("\n")]
    assert [line for line in lines if line in chain] == chain[::-1]


@given(seeds)
def test_a_pronoun_stands_where_the_next_subquestion_names_the_person(seed):
    full = prm.toy_problem(np.random.default_rng(seed), TOY)
    plan = compact.encode(full, full)
    targets = compact.plan_targets(plan)
    for t, (target, _) in enumerate(plan.questions):
        named = t + 1 < len(targets) and plan.questions[t + 1][1] == targets[t]
        assert target == (compact.PRONOUN if named else targets[t])


def test_without_context_no_later_subquestion_is_seen():
    full = prm.toy_problem(np.random.default_rng(3), TOY)
    plan = compact.encode(full, full)
    shown = compact.forced_tokens(plan, cgd=True)
    hidden = compact.forced_tokens(plan, cgd=False)
    assert [s[:2] for s in shown] == [h[:2] for h in hidden]
    assert [tuple(s[2:4]) for s in shown] == [*plan.questions[1:], (compact.NONE, compact.NONE)]
    assert all(h[2:] == [compact.NONE, compact.NONE, compact.MID] for h in hidden)


@given(seeds, st.sampled_from(compact.EPSILONS))
def test_documents_learn_solutions_and_may_hide_what_is_calculated(seed, epsilon):
    full = prm.toy_problem(np.random.default_rng(seed), TOY)
    plan = compact.encode(full, compact.coarsen(full, epsilon))
    document = compact.answer_document(plan)
    learned = document.ids[document.loss_mask].tolist()
    assert learned == [token for ids in plan.solutions for token in ids]
    hidden = compact.answer_document(plan, hide_results=True)
    missing = document.loss_mask & ~hidden.loss_mask
    text = " ".join(compact.describe(ids) for ids in plan.solutions)
    results = re.findall(r"\w+ [-+*] \d+ \w+ \d+ \w+ (\d+)", text)
    assert compact.describe(document.ids[missing]).split() == results


def test_plans_are_written_back_to_front():
    full = prm.toy_problem(np.random.default_rng(0), TOY)
    plan = compact.encode(full, full)
    document = compact.plan_document(plan, compact.facts_by_id(full), 1.0)
    written = document.ids[document.loss_mask][:-1].reshape(-1, 5)
    numbers = [int(word) for word in compact.describe(written[:, 0]).split()]
    assert numbers == list(range(len(full.steps), 0, -1))
    assert written[::-1, 1].tolist() == compact.plan_targets(plan)


@given(seeds, st.sampled_from(compact.EPSILONS))
def test_comparisons_end_in_yes_or_no(seed, epsilon):
    full = prm.toy_problem(np.random.default_rng(seed), COMPARE_TOY)
    plan = compact.encode(full, compact.coarsen(full, epsilon))
    assert plan.answers[-1] == {"yes": compact.YES, "no": compact.NO}[full.answer]
    *_, more, one, other = compact.describe(plan.problem).split()
    assert more == "<MORE>"
    value, _, _ = value_of(
        plan._replace(problem=[*plan.problem[:-3], compact.QM, plan.problem[-2]])
    )
    ending = compact.describe(plan.solutions[-1]).split()[-6:]
    assert ending == [one, str(value(one)), other, str(value(other)), full.answer, ";"]
    forced = [compact.describe(ids).split() for ids in compact.forced_tokens(plan, cgd=True)]
    assert forced[-1] == [one, other, "-", "-", "<MORE>"]
    assert all(ids[-1] == "<MID>" for ids in forced[:-1])


@given(seeds, st.sampled_from(compact.EPSILONS), st.sampled_from([COMPARE_TOY, BRANCH_TOY]))
def test_other_problems_fit_the_programs_of_the_main_ones(seed, epsilon, toy):
    full = prm.toy_problem(np.random.default_rng(seed), toy)
    plan = compact.encode(full, compact.coarsen(full, epsilon))
    steps, tokens = most_steps(TOY, epsilon)
    assert len(plan.questions) <= steps
    assert max(map(len, plan.solutions)) <= tokens
    assert len(plan.problem) <= PROMPT_TOKENS
    assert len(compact.answer_document(plan).ids) <= ROW_TOKENS


def test_numbers_beyond_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="1 to 19, got 20"):
        compact.number_id(20)
