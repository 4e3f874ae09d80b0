import json
from importlib import resources

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxlab import unlearn

PAIRS = resources.files("jaxlab.unlearn") / "tofu_data" / "rouge_pairs_retain90_forget10.jsonl"
TEXT = st.text(alphabet="abcdeghinrst, -'.", max_size=60)


def test_scores_of_the_authors_evaluation():
    for line in PAIRS.read_text("utf-8").splitlines():
        pair = json.loads(line)
        score = unlearn.rouge_l(pair["reference"], pair["generation"])
        np.testing.assert_allclose(score.recall, pair["rougeL_recall"], atol=1e-12)


@pytest.mark.parametrize("use_stemmer", [True, False])
@hypothesis.given(TEXT, TEXT)
def test_live_against_rouge_score(use_stemmer, reference, hypothesis_text):
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=use_stemmer)
    expected = scorer.score(reference, hypothesis_text)["rougeL"]
    got = unlearn.rouge_l(reference, hypothesis_text, use_stemmer=use_stemmer)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_by_hand():
    got = unlearn.rouge_l("the cat sat on the mat", "the cat on a mat", use_stemmer=False)
    np.testing.assert_allclose(got, (4 / 5, 4 / 6, 8 / 11))
    assert unlearn.rouge_l("Running, runs!", "run RUNNER").recall == 0.5
    assert unlearn.rouge_l("running", "runs").recall == 1
    assert unlearn.rouge_l("", "word") == (0, 0, 0)
    assert unlearn.rouge_l("...", "") == (0, 0, 0)
