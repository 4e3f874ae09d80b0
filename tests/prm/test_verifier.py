"""The verifier against hand-computed steps, and its loss as sums over rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.prm import process_reward
from jaxlab.prm.packing import Judged, pack_judged
from jaxlab.prm.studies.config import AutoPRMConfig
from jaxlab.prm.studies.training import fit_verifier
from jaxlab.prm.verifier import (
    LM_WEIGHT,
    Verifier,
    init_verifier,
    score_steps,
    step_logit,
    verifier_loss,
)

CONFIG = AutoPRMConfig(d_model=16, n_heads=2)
CFG = CONFIG.network()
IDS = np.array([1, 30, 31, 32, 6, 33, 34, 6], np.int32)
STARTS, ENDS = [2, 5], [4, 7]


def judged(labels=(1.0, 0.0), *, is_gold=False):
    mask = np.array([0, 0, 1, 1, 1, 1, 1, 1], bool)
    return Judged(lm.Document(IDS, mask), STARTS, ENDS, list(labels), is_gold)


@pytest.fixture(scope="module")
def verifier():
    params = lm.init_params(jax.random.key(0), CFG)
    return Verifier(params, jax.random.normal(jax.random.key(1), CFG.vocab_size), jnp.float32(0.3))


def test_a_step_is_scored_by_its_end_and_its_own_likelihood(verifier):
    rows = pack_judged([judged()], 12, 3)
    logits = lm.forward(verifier.lm, CFG, IDS[None]).logits[0]
    log_probs = jax.nn.log_softmax(logits)
    for number, (start, end) in enumerate(zip(STARTS, ENDS, strict=True)):
        likelihood = sum(log_probs[t - 1, IDS[t]] for t in range(start, end + 1))
        expected = logits[end] @ verifier.u + likelihood + verifier.b
        np.testing.assert_allclose(score_steps(verifier, CFG, rows)[0, number], expected, rtol=1e-4)
        np.testing.assert_allclose(step_logit(verifier, logits[end], likelihood), expected)


def test_a_new_verifier_scores_by_likelihood_alone():
    start = init_verifier(lm.init_params(jax.random.key(0), CFG), CFG.vocab_size)
    np.testing.assert_allclose(step_logit(start, jnp.ones(CFG.vocab_size), -2.0), -2.0)


def test_a_document_scores_the_same_in_any_row(verifier):
    other = Judged(lm.Document(IDS[:5], np.ones(5, bool)), [2], [4], [1.0], False)
    alone = score_steps(verifier, CFG, pack_judged([judged()], 12, 3))[0, :2]
    packed = score_steps(verifier, CFG, pack_judged([other, judged()], 16, 4))[0, 1:3]
    np.testing.assert_allclose(packed, alone, atol=1e-5)


def test_loss_is_a_sum_over_steps_with_its_weight(verifier):
    loss = functools.partial(verifier_loss, cfg=CFG, key=None)
    sampled = pack_judged([judged()], 12, 3)
    total, weight, _ = loss(verifier, sampled)
    scores = score_steps(verifier, CFG, sampled)[0, :2]
    expected = process_reward.prm_loss(scores, jnp.array([1.0, 0.0]), jnp.ones(2, bool))
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)
    assert weight == 2

    gold = pack_judged([judged((1.0, 1.0), is_gold=True)], 12, 3)
    total, weight, _ = loss(verifier, gold)
    right = process_reward.prm_loss(scores, jnp.ones(2), jnp.ones(2, bool))
    whole = lm.next_token_loss(
        verifier.lm, CFG, {name: gold[name] for name in ("tokens", "segment_ids", "loss_mask")}
    )
    language = whole[0] / whole[1]
    np.testing.assert_allclose(total / weight, right + LM_WEIGHT * language, rtol=1e-5)


def test_training_tells_right_numbers_from_wrong_ones():
    params = lm.init_params(jax.random.key(2), CFG)
    ids = [np.array([1, 30 + i, 20 + i, 6], np.int32) for i in range(4)]
    wrong = [np.array([1, 30 + i, 20 + (i + 1) % 4, 6], np.int32) for i in range(4)]

    def texts(rows, label, *, is_gold):
        mask = np.array([0, 0, 1, 1], bool)
        return [Judged(lm.Document(row, mask), [2], [3], [label], is_gold) for row in rows]

    samples = texts(ids, 1.0, is_gold=False) + texts(wrong, 0.0, is_gold=False)
    gold = texts(ids, 1.0, is_gold=True)
    trained = fit_verifier(CFG, params, samples, gold, rows=4, steps=60, lr=1e-2, seed=0)
    scores = {
        name: np.concatenate(
            [np.asarray(score_steps(trained, CFG, pack_judged([text], 8, 1)))[0] for text in group]
        )
        for name, group in (("right", samples[:4]), ("wrong", samples[4:]))
    }
    assert scores["right"].min() > 0 > scores["wrong"].max()


def test_texts_without_a_step_are_refused():
    empty = Judged(lm.Document(IDS, np.ones(8, bool)), [], [], [], True)
    with pytest.raises(ValueError, match="no valid step in batch"):
        fit_verifier(CFG, {}, [], [empty], rows=4, steps=1, lr=1e-3, seed=0)
