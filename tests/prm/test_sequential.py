"""Sampling through caches against whole forward passes, and the verifier against itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.prm import compact, sequential
from jaxlab.prm.compact import NONE, PAD, SEP
from jaxlab.prm.packing import pack_judged
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.config import TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import draw_problems, plans_at
from jaxlab.prm.verifier import Verifier, score_steps, verifier_loss

CFG = AutoPRMConfig(d_model=32, n_heads=2).network()
PLANS = plans_at(draw_problems(np.random.default_rng(0), TOY, 3, set()), 0.75)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def params():
    """A network of random weights that ends its sub-solutions now and then."""
    params = jax.tree.map(lambda x: 3 * x, lm.init_params(jax.random.key(0), CFG))
    return params


@pytest.fixture(scope="module")
def verifier(params):
    other = lm.init_params(jax.random.key(7), CFG)
    u = jax.random.normal(jax.random.key(8), CFG.vocab_size)
    return Verifier(other, u, jnp.float32(20.0))


@pytest.fixture(scope="module")
def drawn(params, verifier):
    return rollouts.sample(
        KEY, params, verifier, CFG, PLANS, epsilon=0.75, choose=sequential.most_rewarded, k=3
    )


def text(plan, solutions):
    return compact.answer_document(plan, solutions=solutions).ids


def test_greedy_answers_are_those_of_whole_forward_passes(params):
    greedy = rollouts.sample(KEY, params, None, CFG, PLANS, epsilon=0.75, sampling=rollouts.GREEDY)
    width = greedy.tokens.shape[-1]
    forward = jax.jit(lambda tokens: lm.forward(params, CFG, tokens).logits)
    for p, plan in enumerate(PLANS):
        ids = list(plan.problem)
        for t, forced in enumerate(compact.forced_tokens(plan, True)):
            ids += forced
            answer = []
            while len(answer) < width and SEP not in answer:
                padded = np.zeros((1, 256), np.int32)
                padded[0, : len(ids)] = ids
                answer.append(int(forward(padded)[0, len(ids) - 1].argmax()))
                ids.append(answer[-1])
            assert greedy.tokens[p, t, 0, : len(answer)].tolist() == answer
            assert (greedy.tokens[p, t, 0, len(answer) :] == PAD).all()


def test_rewards_are_those_of_packed_rows(params, verifier, drawn):
    assert drawn.complete.any()
    checked = 0
    for p, plan in enumerate(PLANS):
        complete = np.take_along_axis(drawn.complete[p], drawn.index[p][:, None], 1)[:, 0]
        count = int(np.argmin(complete)) if not complete.all() else len(complete)
        count = min(count, len(plan.questions))
        if not count:
            continue
        chosen = rollouts.chosen_solutions(drawn, p, count)
        judged = rollouts.judged_document(plan, chosen, [1.0] * count, cgd=True, judged=slice(None))
        rows = pack_judged([judged], 256, 12)
        scores = jax.nn.sigmoid(score_steps(verifier, CFG, rows))[0, :count]
        kept = np.take_along_axis(drawn.reward[p], drawn.index[p][:, None], 1)[:count, 0]
        np.testing.assert_allclose(scores, kept, atol=2e-4)
        checked += count
    assert checked > 0


def test_log_probabilities_are_those_of_the_text(params, drawn):
    plan = PLANS[0]
    for j in range(3):
        ids = drawn.tokens[0, 0, j].tolist()
        ids = ids[: ids.index(SEP) + 1] if SEP in ids else ids
        whole = text(plan, [ids])
        logits = lm.forward(params, CFG, whole[None]).logits
        expected = lm.token_log_probs(logits, whole[None])[0, -len(ids) :].sum()
        np.testing.assert_allclose(drawn.logp[0, 0, j], expected, rtol=1e-4)


def test_chunks_do_not_change_what_is_drawn(params, drawn, verifier, monkeypatch):
    monkeypatch.setattr(rollouts, "ROWS", 6)
    again = rollouts.sample(
        KEY, params, verifier, CFG, PLANS, epsilon=0.75, choose=sequential.most_rewarded, k=3
    )
    np.testing.assert_array_equal(drawn.tokens, again.tokens)
    np.testing.assert_allclose(drawn.reward, again.reward, atol=1e-5)


def test_nothing_is_drawn_where_there_is_no_step(params, drawn):
    steps = np.array([len(plan.questions) for plan in PLANS])
    absent = np.arange(drawn.tokens.shape[1]) >= steps[:, None]
    assert absent.any()
    assert (drawn.tokens[absent] == PAD).all()
    assert (drawn.logp[absent] == 0).all()
    assert (drawn.logp[~absent] < 0).all()


def test_nothing_is_drawn_after_a_refused_step(params):
    unanswerable = [plan._replace(answers=[NONE] * len(plan.answers)) for plan in PLANS]
    drawn = rollouts.sample(
        KEY, params, None, CFG, unanswerable, epsilon=0.75, choose=sequential.first_right, k=2
    )
    assert (drawn.logp[:, 0] < 0).all()
    assert (drawn.logp[:, 1:] == 0).all()
    assert not drawn.accepted.any()
    assert (drawn.tokens[:, 1:] == PAD).all()


def test_choices():
    logp = jnp.log(jnp.array([[0.5, 0.2, 0.3]]))
    reward = jnp.array([[0.2, 0.9, 0.7]])
    right = jnp.array([[False, False, True]])
    for choose, index, accepted in (
        (sequential.first_accepted, 1, True),
        (sequential.first_right, 2, True),
        (sequential.most_rewarded, 2, True),
        (sequential.only, 0, True),
    ):
        found, passed = choose(logp, reward, right)
        assert (int(found[0]), bool(passed[0])) == (index, accepted)
    assert not sequential.first_accepted(logp, reward - 0.5, right)[1][0]
    assert not sequential.first_right(logp, reward, ~right & False)[1][0]


def test_final_answer_needs_a_number_or_yes_or_no_before_the_end():
    seven = compact.number_id(7)
    tokens = jnp.array(
        [
            [seven, SEP, PAD],
            [seven, compact.HAS, SEP],
            [seven, seven, seven],
            [SEP, PAD, PAD],
            [seven, compact.NO, SEP],
        ]
    )
    np.testing.assert_array_equal(
        sequential.final_answer(tokens), [seven, PAD, PAD, PAD, compact.NO]
    )


def test_the_verifier_loss_is_finite_and_has_a_gradient(params):
    judged = [rollouts.gold_judged(plan, cgd=True) for plan in PLANS]
    rows = pack_judged(judged, 256, 12)
    start = Verifier(params, jnp.zeros(CFG.vocab_size), jnp.zeros(()))
    loss = functools.partial(verifier_loss, batch=rows, key=None, cfg=CFG)
    (value, slopes) = jax.value_and_grad(lambda v: loss(v)[0])(start)
    assert np.isfinite(value)
    assert loss(start)[1] == sum(len(plan.answers) for plan in PLANS)
    step = 1e-2
    moved = loss(start._replace(b=start.b + step))[0] - loss(start._replace(b=start.b - step))[0]
    np.testing.assert_allclose(slopes.b, moved / (2 * step), rtol=2e-2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
