"""Each stage of the study at a tiny size, one after another as a run does."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxlab import prm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import PAD, SEP
from jaxlab.prm.sequential import Rollout
from jaxlab.prm.studies import arms, measures, networks, rollouts, stages
from jaxlab.prm.studies.config import COMPARE_TOY, EPSILON_MIX, TOY
from jaxlab.prm.studies.problems import (
    answer_documents,
    base_documents,
    draw_problems,
    known_answers,
    most_steps,
    plan_arrays,
    plan_documents,
    plans_at,
    rephrased,
)

TINY = dataclasses.replace(
    prm.AutoPRMConfig.preset("smoke"),
    d_model=16,
    batch_rows=4,
    base_problems=20,
    base_steps=2,
    sft_problems=8,
    sft_steps=2,
    strong_problems=32,
    strong_steps=2,
    verifier_problems=8,
    verifier_steps=2,
    round_problems=8,
    k=2,
    verifier_candidates=2,
    rl_steps=2,
    test_problems=8,
    plan_problems=8,
    search_problems=2,
)
PROBLEMS = draw_problems(np.random.default_rng(3), TOY, 8, set())
PLANS = plans_at(PROBLEMS, 0.75)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def base():
    return stages.train_base(TINY, set())


@pytest.fixture(scope="module")
def stage(base):
    taken = {problem.problem for problem in PROBLEMS}
    tuned = stages.fine_tune(TINY, base["params"], 0, taken, cgd=True)
    verifier, _ = stages.judge(TINY, tuned, 0, taken)
    return tuned._replace(verifier=verifier)


def perfect(plans, k=1):
    """Rollouts in which every candidate is the plan's own solution, all accepted."""
    num_steps, width = most_steps(TOY, 0.75)
    tokens = np.full((len(plans), num_steps, k, width), PAD, np.int32)
    for p, plan in enumerate(plans):
        for t, ids in enumerate(plan.solutions):
            tokens[p, t, :, : len(ids)] = ids
    answer = np.repeat(known_answers(plans, num_steps)[..., None], k, axis=-1)
    complete = (tokens == SEP).any(-1)
    ones = np.where(complete, 1.0, 0.0)
    index = np.zeros((len(plans), num_steps), np.int32)
    return Rollout(tokens, complete, -ones, ones, answer, index, complete[..., 0])


def test_a_loss_that_is_not_finite_stops_a_training(base):
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), base["params"])
    with pytest.raises(FloatingPointError, match="loss is nan at step"):
        stages.fine_tune(TINY, broken, 0, {p.problem for p in PROBLEMS}, cgd=True)


def test_problems_are_never_drawn_twice():
    taken = {PROBLEMS[0].problem}
    again = draw_problems(np.random.default_rng(3), TOY, 8, taken)
    assert len(taken) == 9
    assert PROBLEMS[0].problem not in [p.problem for p in again]


def test_documents_of_each_stage():
    rng = np.random.default_rng(0)
    answers = answer_documents(rng, PROBLEMS, 2, cgd=True)
    plans = plan_documents(rng, PROBLEMS, 3)
    assert (len(answers), len(plans)) == (16, 24)
    assert all(compact.QD in document.ids for document in plans)
    shared, decomposed = base_documents(rng, PROBLEMS)
    assert len(shared) == len(decomposed) == 8
    hidden = sum(compact.is_number(d.ids[d.loss_mask]).sum() for d in shared)
    shown = sum(compact.is_number(d.ids[d.loss_mask]).sum() for d in answers[:8])
    assert 0 < hidden < shown  # the computed numbers are out of the base's loss
    assert sum(EPSILON_MIX) == pytest.approx(1)


def test_rephrased_problems_tell_the_same_facts():
    rng = np.random.default_rng(0)
    other = rephrased(rng, PROBLEMS[0])
    assert other.problem != PROBLEMS[0].problem
    assert sorted(other.problem.split(". ")) == sorted(PROBLEMS[0].problem.split(". "))
    assert other[1:] == PROBLEMS[0][1:]
    texts = answer_documents(rng, PROBLEMS[:1], 5, cgd=True, rephrase=True)
    width = len(PLANS[0].problem)
    assert len({document.ids[:width].tobytes() for document in texts}) > 1
    same = answer_documents(rng, PROBLEMS[:1], 5, cgd=True)
    assert len({document.ids[:width].tobytes() for document in same}) == 1


def test_plan_arrays_pad_on_the_side_that_each_needs():
    num_steps, _ = most_steps(TOY, 0.75)
    arrays = plan_arrays(PLANS, num_steps, True)
    for p, plan in enumerate(PLANS):
        assert arrays["prompt"][p, -len(plan.problem) :].tolist() == plan.problem
        n = len(plan.questions)
        assert (arrays["forced"][p, n:] == PAD).all()
        assert arrays["answers"][p].tolist() == plan.answers + [PAD] * (num_steps - n)


def test_perfect_answers_score_one_and_wrong_ones_less():
    right = perfect(PLANS)
    assert rollouts.score(right, PLANS) == (1, 1)
    worse = right._replace(answer=right.answer.copy())
    last = len(PLANS[0].answers) - 1
    worse.answer[0, last, 0] += 1
    final, step = rollouts.score(worse, PLANS)
    total = sum(len(plan.answers) for plan in PLANS)
    assert (final, step) == (7 / 8, pytest.approx(1 - 1 / total))
    exists = rollouts.existing_steps(right, PLANS)
    assert (exists.sum(1) == [len(plan.questions) for plan in PLANS]).all()
    np.testing.assert_array_equal(rollouts.reached_steps(right, PLANS), exists)
    stopped = right._replace(accepted=right.accepted & (np.arange(exists.shape[1]) < 1))
    assert (rollouts.reached_steps(stopped, PLANS).sum(1) == np.minimum(exists.sum(1), 2)).all()


def test_a_verifiers_data_end_where_no_candidate_is_right():
    rolled = perfect(PLANS[:1], k=2)
    count = len(PLANS[0].answers)
    assert count > 2
    tokens, answer = rolled.tokens.copy(), rolled.answer.copy()
    answer[0, 1] += 1  # both candidates of the second step end in another number
    tokens[0, 1][tokens[0, 1] == PLANS[0].answers[1]] += 1
    accepted = np.arange(rolled.index.shape[1])[None] < 1
    judged = rollouts.judged_candidates(
        rolled._replace(tokens=tokens, answer=answer, accepted=accepted), PLANS[:1], cgd=True
    )
    assert sorted(len(j.labels) for j in judged) == [1, 1, 1, 1]
    assert sorted(label for j in judged for label in j.labels) == [0, 0, 1, 1]
    for j in judged:
        assert [j.document.ids[end] for end in j.ends] == [SEP]


def test_the_base_reads_and_hides_results(base):
    assert 0 <= base["look_up"] <= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(base["params"]))


@pytest.mark.parametrize("accept", [arms.by_subquestion, arms.by_final_answer])
def test_acceptance_counts_what_was_drawn(stage, accept):
    taken = accept(TINY)(KEY, stage.params, stage, PLANS)
    assert taken.counts["drawn_tokens"] > 0
    assert taken.counts["accepted_texts"] == len(taken.documents)
    learned = sum(d.loss_mask.sum() for d in taken.documents)
    assert taken.counts["accepted_tokens"] == learned


def test_accepted_traces_of_outcome_reward_are_each_kept_once(stage, monkeypatch):
    whole = [plan for plan in PLANS for _ in range(TINY.k)]
    monkeypatch.setattr(rollouts, "sample", lambda *args, **kwargs: perfect(whole))
    taken = arms.by_final_answer(TINY)(KEY, stage.params, stage, PLANS)
    assert len(taken.documents) == len(PLANS)  # k equal copies count once
    assert taken.counts["step_precision"] == 1
    for plan, document in zip(PLANS, taken.documents, strict=True):
        np.testing.assert_array_equal(document.ids, compact.answer_document(plan).ids)


def test_comparisons_pass_through_every_stage(base):
    recipe = stages.Recipe(toy=COMPARE_TOY)
    tuned, quality = stages.prepare(TINY, recipe, base["params"], 0, set())
    assert tuned.toy.compare
    assert set(quality) == {"auc", "precision", "f1"}
    held_out = draw_problems(np.random.default_rng(4), COMPARE_TOY, 8, set())
    plans = plans_at(held_out, 0.75)
    right = rollouts.score(perfect(plans), plans)
    assert right == (1, 1)  # yes and no count as answers
    curves = arms.iterate(TINY, tuned, arms.by_final_answer(TINY), plans, 0, set())
    assert curves["final"].shape == (TINY.rounds + 1,)


def test_two_networks_have_the_parameters_of_one_and_share_its_texts():
    for config in (prm.AutoPRMConfig.preset("small"), TINY):
        whole = networks.count(config.network())
        assert abs(2 * networks.count(networks.half_network(config)) - whole) < 0.05 * whole
    bases = networks.train_bases(TINY, set())
    found = networks.measure(TINY, bases, 0, PROBLEMS, set())
    assert all(0 <= found[name] <= 1 for name in ("own", "gold", "all_right"))


def test_the_strong_base_is_tuned_on_more_problems(base, monkeypatch):
    seen = []
    monkeypatch.setattr(stages, "fit", lambda cfg, params, pools, **kw: seen.append((pools, kw)))
    monkeypatch.setattr(stages, "judge", lambda *args, **kw: (None, {}))
    for strong in (False, True):
        stages.prepare(TINY, stages.Recipe(strong=strong), base["params"], 0, set())
    (weak_pools, weak), (strong_pools, strong) = seen
    assert (weak["steps"], strong["steps"]) == (TINY.sft_steps, TINY.strong_steps)
    weak_tokens, strong_tokens = (p[0][0]["loss_mask"].sum() for p in (weak_pools, strong_pools))
    assert strong_tokens > 3 * weak_tokens


def test_iteration_returns_curves_of_every_round(stage):
    curves = arms.iterate(TINY, stage, arms.nothing, PLANS, 0, set())
    assert curves["final"].shape == curves["reward"].shape == (TINY.rounds + 1,)
    assert (curves["accepted_texts"] == 0).all()
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), curves["params"], stage.params)
    assert max(jax.tree.leaves(moved)) > 0


def test_gold_steps_do_not_reach_reinforcement(stage):
    assert measures.provenance(TINY, stage, arms.by_subquestion(TINY), PLANS)["same"]
    # The check itself sees an arm that does read them.
    reading = arms.by_subquestion(TINY, choose=sequential.first_right)
    always = stage._replace(verifier=stage.verifier._replace(b=np.float32(1e6)))
    accepting = arms.by_subquestion(TINY, choose=sequential.first_accepted)
    assert measures.provenance(TINY, always, accepting, PLANS)["same"]

    def peeking(key, params, stage, plans):
        documents = [compact.answer_document(plan) for plan in plans]
        return reading(key, params, stage, plans)._replace(documents=documents)

    seen = measures.provenance(TINY, stage, peeking, PLANS)
    assert (seen["same"], seen["texts"]) == (False, len(PLANS))


def poisoned(plan):
    """The plan with every sub-solution and every number but the last one wrong."""
    answers = [PAD] * (len(plan.answers) - 1) + plan.answers[-1:]
    return plan._replace(answers=answers, solutions=[[SEP] for _ in plan.solutions])


def test_labels_by_rollout_read_final_answers_alone(stage):
    loud = jax.tree.map(lambda x: 3 * x, stage.params)  # so that some candidates end
    network = TINY.network()
    drawn = rollouts.sample(KEY, loud, None, network, PLANS, epsilon=0.75, k=2)
    label = functools.partial(
        rollouts.candidates_by_rollout,
        KEY,
        loud,
        network,
        drawn,
        epsilon=0.75,
        cgd=True,
        count=2,
    )
    judged = label(PLANS)
    assert judged
    for one, other in zip(judged, label([poisoned(plan) for plan in PLANS]), strict=True):
        np.testing.assert_array_equal(one.document.ids, other.document.ids)
        assert one.labels == other.labels
    assert all(one.labels[0] in (0, 0.5, 1) for one in judged)


def test_labels_by_rollout_are_right_where_the_solver_is(monkeypatch):
    """Perfect candidates followed by rollouts that all end in the answer, then in another one."""
    drawn = perfect(PLANS)
    for shift, expected in ((0, {1.0}), (1, {0.0, 1.0})):

        def ending(key, params, verifier, cfg, plans, shift=shift, **kwargs):
            rolled = perfect(plans)
            return rolled._replace(answer=rolled.answer + shift)

        monkeypatch.setattr(rollouts, "sample", ending)
        judged = rollouts.candidates_by_rollout(
            KEY, {}, TINY.network(), drawn, PLANS, epsilon=0.75, cgd=True, count=2
        )
        assert len(judged) == sum(len(plan.questions) for plan in PLANS)
        assert {label for j in judged for label in j.labels} == expected


def test_what_is_left_of_a_plan_begins_with_what_was_said():
    plan = PLANS[0]
    left = rollouts.plan_after(plan, plan.solutions[:1], cgd=True)
    whole = compact.answer_document(plan).ids.tolist()
    assert whole[: len(left.problem)] == left.problem
    assert left.questions == plan.questions[1:]
    assert compact.forced_tokens(left, True) == compact.forced_tokens(plan, True)[1:]
    assert left.answers == plan.answers[1:]
