"""GRPO's rounds: which candidates are trained on with which advantage, and the loss itself."""

import jax
import numpy as np
import pytest

from jaxlab import lm, prm
from jaxlab.prm.compact import PAD, SEP
from jaxlab.prm.packing import pack_judged
from jaxlab.prm.sequential import Rollout
from jaxlab.prm.studies import policy_gradient
from jaxlab.prm.studies.config import ROW_TOKENS, TOY
from jaxlab.prm.studies.problems import draw_problems, plans_at

CFG = prm.AutoPRMConfig.preset("smoke").network()
PLANS = plans_at(draw_problems(np.random.default_rng(3), TOY, 2, set()), 0.75)
STEPS = 8


def rolled(rewards):
    """Rollouts whose candidates are the plans' own solutions, with rewards [P, S, k]."""
    shape = rewards.shape
    tokens = np.full((*shape, 16), PAD, np.int32)
    for p, plan in enumerate(PLANS):
        for t, ids in enumerate(plan.solutions):
            tokens[p, t, :, : len(ids)] = ids
    complete = (tokens == SEP).any(-1)
    zeros = np.zeros(shape)
    index = np.zeros(shape[:2], np.int32)
    return Rollout(
        tokens, complete, zeros, rewards, zeros.astype(int), index, np.ones(shape[:2], bool)
    )


def test_advantages_are_normalised_within_a_subquestion():
    rewards = np.full((2, STEPS, 3), 0.4, np.float32)
    rewards[0, 1] = 0.9, 0.5, 0.1
    judged, share = policy_gradient.group_candidates(rolled(rewards), PLANS, cgd=True)
    total = sum(len(plan.questions) for plan in PLANS)
    assert share == pytest.approx(1 / total)  # of equal rewards nothing is learned
    expected = (rewards[0, 1] - 0.5) / (np.std(rewards[0, 1], ddof=1) + 1e-4)
    np.testing.assert_allclose([j.labels[0] for j in judged], expected, rtol=1e-4)
    solution = PLANS[0].solutions[1]
    for j in judged:
        assert j.document.ids[j.starts[0] : j.ends[0] + 1].tolist() == solution


def test_incomplete_candidates_count_but_are_not_trained_on():
    rewards = np.full((2, STEPS, 3), 0.5, np.float32)
    rewards[1, 0] = 1, 1, 0
    roll = rolled(rewards)
    roll.complete[1, 0, 2] = False
    judged, _ = policy_gradient.group_candidates(roll, PLANS, cgd=True)
    assert len(judged) == 2
    assert all(j.labels[0] > 0 for j in judged)


def test_the_gradient_at_the_old_policy_is_that_of_the_weighted_likelihood():
    rewards = np.random.default_rng(0).random((2, STEPS, 2)).astype(np.float32)
    judged, _ = policy_gradient.group_candidates(rolled(rewards), PLANS, cgd=True)
    rows = pack_judged(judged, ROW_TOKENS, 40)
    params = lm.init_params(jax.random.key(0), CFG)
    batch = rows | {"old_logp": policy_gradient._log_probs(CFG, params, rows, 4)}

    def weighted(params):
        logits = lm.forward(params, CFG, rows["tokens"], segment_ids=rows["segment_ids"]).logits
        weights = np.zeros(rows["tokens"].shape, np.float32)
        for r, ids in enumerate(rows["step_ids"]):
            for t, step in enumerate(ids):
                weights[r, t] = rows["step_labels"][r, step] if step >= 0 else 0
        return -(lm.token_log_probs(logits, rows["tokens"]) * weights[:, 1:]).sum()

    loss, count = policy_gradient.group_loss(params, batch, None, cfg=CFG)
    assert count == (rows["step_ids"] >= 0).sum()
    assert np.isfinite(loss)
    found = jax.grad(lambda p: policy_gradient.group_loss(p, batch, None, cfg=CFG)[0])(params)
    for a, b in zip(*map(jax.tree.leaves, (found, jax.grad(weighted)(params))), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
