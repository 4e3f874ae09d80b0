"""Traces as rows of a search: what the policy draws, how they are scored, what is dropped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import align, lm, prm
from jaxlab.prm import compact
from jaxlab.prm.compact import BOS, FORCED, MID, PAD, SEP
from jaxlab.prm.packing import pack_judged
from jaxlab.prm.studies import rollouts, speculation
from jaxlab.prm.studies.config import TOY
from jaxlab.prm.studies.problems import PROMPT_TOKENS, draw_problems, plan_arrays, plans_at
from jaxlab.prm.verifier import Verifier, score_steps

CONFIG = prm.AutoPRMConfig.preset("smoke")
CFG = dataclasses.replace(CONFIG.network(), tie_embeddings=False, head_bias=True)
PLAN = min(
    plans_at(draw_problems(np.random.default_rng(3), TOY, 8, set()), 0.75),
    key=lambda plan: len(plan.questions),
)
STEPS, LONGEST, ROWS = 8, 161, 6
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
    """Random, but after any token SEP is likely and no mark is drawn out of place."""
    params = lm.init_params(jax.random.key(1), CFG)
    bias = jnp.zeros(CFG.vocab_size).at[SEP].set(2.5).at[jnp.array([PAD, BOS, MID])].set(-30)
    return params | {"head": params["head"] | {"b": bias}}


@pytest.fixture(scope="module")
def reward(params):
    u = jax.random.normal(jax.random.key(2), CFG.vocab_size) / 10
    verifier = Verifier(params, u, jnp.asarray(8.0))
    return verifier, speculation.trace_reward(verifier, CFG, ROWS, PROMPT_TOKENS + LONGEST, STEPS)


@pytest.fixture(scope="module")
def policy(params):
    return align.Policy(*speculation.trace_policy(params, CFG, PLAN, ROWS + 2, STEPS, LONGEST))


def prompt():
    return plan_arrays([PLAN], STEPS, True)["prompt"][0]


def draw(policy, count):
    """Rows in three stretches, the second of which begins with rows 3, 0 and 1."""
    state = policy.start(align.row_keys(KEY, ROWS), prompt(), PROMPT_TOKENS + LONGEST)
    state, first, _ = policy.extend(state, count)
    state = policy.gather(state, np.array([3, 0, 1], np.int32), PROMPT_TOKENS + LONGEST)
    state, second, logp = policy.extend(state, LONGEST - count)
    return np.concatenate([first[[3, 0, 1]], second], axis=1), logp


def test_given_tokens_stand_where_a_document_has_them(policy):
    rows, _ = draw(policy, 11)
    ended = 0
    for row in rows.tolist():
        body, steps = row[: row.index(BOS)] if BOS in row else row, []
        for forced in compact.forced_tokens(PLAN, True):
            if SEP not in body[FORCED:]:
                break
            assert body[:FORCED] == forced
            end = body.index(SEP, FORCED) + 1
            steps.append(body[FORCED:end])
            body = body[end:]
        if BOS in row:
            ended += 1
            assert len(steps) == len(PLAN.questions)
            assert not body
            document = compact.answer_document(PLAN, solutions=steps)
            assert [*PLAN.problem, *row[: row.index(BOS)]] == document.ids.tolist()
    assert ended


def test_rows_do_not_depend_on_when_others_were_dropped(policy):
    np.testing.assert_array_equal(draw(policy, 11)[0], draw(policy, 40)[0])


def test_rewards_are_those_of_packed_rows(policy, reward):
    verifier, score = reward
    rows, _ = draw(policy, 11)
    row = next(row for row in rows.tolist() if BOS in row)
    assert row[: row.index(BOS)].count(MID) == len(PLAN.questions)
    found = score(prompt(), np.array([row, row]), np.array([row.index(BOS), FORCED]))
    solutions, body = [], row
    for _ in PLAN.questions:
        end = body.index(SEP, FORCED) + 1
        solutions.append(body[FORCED:end])
        body = body[end:]
    ones = [1.0] * len(solutions)
    judged = rollouts.judged_document(PLAN, solutions, ones, cgd=True, judged=slice(None))
    steps = jax.nn.sigmoid(score_steps(verifier, CFG, pack_judged([judged], 256, 12)))[0]
    np.testing.assert_allclose(found[0], np.prod(steps[: len(ones)]), rtol=1e-3)
    assert found[1] == 0.5  # no step has ended


def search(key, policy, reward, prompt, *, rows, capacity_tokens, max_new_tokens, end_id):
    cfg = align.SpecRejConfig(
        max_new_tokens, capacity_tokens, n_init=rows, prefix_shared=True, eos_ids=(end_id,)
    )
    return align.speculative_rejection(key, align.Policy(*policy), reward, prompt, cfg)


def test_with_room_for_all_rows_the_search_is_best_of_n(policy, reward):
    whole = search(
        KEY, policy, reward[1], prompt(),
        rows=ROWS, capacity_tokens=ROWS * LONGEST, max_new_tokens=LONGEST, end_id=BOS,
    )  # fmt: skip
    best = align.best_of_n(
        KEY, policy, reward[1], prompt(), n=ROWS, max_new_tokens=LONGEST, eos_ids=BOS
    )
    assert (whole.row, whole.tokens_generated) == (best.row, best.tokens_generated)
    np.testing.assert_array_equal(whole.tokens, best.tokens)
    early = search(
        KEY, policy, reward[1], prompt(),
        rows=ROWS, capacity_tokens=ROWS * 13, max_new_tokens=LONGEST, end_id=BOS,
    )  # fmt: skip
    assert early.tokens_generated < whole.tokens_generated
    assert early.score <= whole.score


def test_an_answer_is_what_stands_before_the_end():
    three = compact.number_id(3)
    assert speculation.trace_answer([three, SEP, BOS, PAD]) == three
    assert speculation.trace_answer([SEP, SEP, BOS]) == PAD
    assert speculation.trace_answer([three, BOS]) == PAD  # the sub-solution is open
    assert speculation.trace_answer([three, SEP, three]) == PAD  # not finished


def test_the_study_measures_each_cut():
    params = lm.init_params(KEY, CONFIG.network())
    verifier = Verifier(params, jnp.zeros(CFG.vocab_size), jnp.zeros(()))
    found = speculation.measure(CONFIG, search, params, verifier, [PLAN, PLAN], KEY)
    assert found["cut"].tolist() == [LONGEST, *(cut for _, cut in speculation.EARLY)]
    assert found["rows"].tolist() == [3, 3, 3, 6]
    assert found["right"].shape == found["tokens"].shape == (4, 2)
    assert (found["tokens"][1] <= found["tokens"][0]).all()
