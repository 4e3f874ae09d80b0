"""Perplexity against one forward pass over all rows."""

import numpy as np
import pytest

from jaxlab import lm
from jaxlab.lm.evaluation import evaluate_loss, unigram_loss
from tests.lm import tiny

CFG = tiny.config()
PARAMS = tiny.perturbed(CFG)
TOKENS, MASK = tiny.padded_batch()


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_any_batch_size_gives_the_mean_over_tokens(batch_size):
    rows = {"tokens": TOKENS, "attention_mask": MASK, "loss_mask": TOKENS > 30}
    total, weight = lm.next_token_loss(PARAMS, CFG, rows)
    loss = evaluate_loss(PARAMS, CFG, rows, batch_size=batch_size)
    np.testing.assert_allclose(loss, total / weight, rtol=1e-5)


def test_rows_without_a_loss_mask_and_with_options():
    plain = evaluate_loss(PARAMS, CFG, {"tokens": TOKENS}, batch_size=3)
    total, weight = lm.next_token_loss(PARAMS, CFG, {"tokens": TOKENS})
    np.testing.assert_allclose(plain, total / weight, rtol=1e-5)
    chunked = evaluate_loss(PARAMS, CFG, {"tokens": TOKENS}, batch_size=2, chunk=7)
    np.testing.assert_allclose(chunked, plain, rtol=1e-5)


def test_nothing_to_evaluate():
    rows = {"tokens": TOKENS, "loss_mask": np.zeros_like(MASK)}
    with pytest.raises(ValueError, match="loss_mask"):
        evaluate_loss(PARAMS, CFG, rows, batch_size=3)


def test_unigram_loss():
    tokens = np.array([[1, 1, 2, 2], [5, 5, 5, 5]])
    rows = {"tokens": tokens, "loss_mask": tokens < 5}
    np.testing.assert_allclose(unigram_loss(rows), np.log(2))
