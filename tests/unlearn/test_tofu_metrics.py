import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.stats import hmean, ks_2samp

from jaxlab import unlearn

UTILITY = {"full": 0.622677, "retain99": 0.620744, "retain95": 0.600577, "retain90": 0.613745}


@pytest.mark.parametrize(("name", "utility"), list(UTILITY.items()))
def test_published_logs_give_the_published_utility(name, utility):
    report = unlearn.tofu_report(unlearn.load_tofu_logs(name))
    np.testing.assert_allclose(report.model_utility, utility, atol=1e-6)
    assert report.forget_quality is None
    assert report.ks_statistic is None


def test_published_logs_give_the_published_forget_quality():
    logs, retrained = unlearn.load_tofu_logs("full"), unlearn.load_tofu_logs("retain90")
    report = unlearn.tofu_report(logs, retrained)
    np.testing.assert_allclose(report.ks_statistic, 0.396667, atol=1e-6)
    np.testing.assert_allclose(report.forget_quality, 1.834e-21, rtol=1e-3)
    assert report.forget_truth_ratio.shape == (300,)
    assert unlearn.tofu_report(retrained, retrained).forget_quality == 1
    # The test does not see whether ratios are inverted, as the original logs have them.
    other = unlearn.tofu_report(retrained).forget_truth_ratio
    inverted = ks_2samp(1 / report.forget_truth_ratio, 1 / other)
    np.testing.assert_allclose(inverted.pvalue, report.forget_quality, rtol=1e-9)


def test_logs_as_dicts_are_read_in_the_order_of_their_numbers():
    logs = unlearn.load_tofu_logs("retain99")
    as_dicts = {
        name: {
            field: {str(i): row for i, row in reversed(list(enumerate(values)))}
            for field, values in log.items()
        }
        for name, log in logs.items()
    }
    first, second = unlearn.tofu_report(logs), unlearn.tofu_report(as_dicts)
    assert first.metrics == second.metrics
    np.testing.assert_array_equal(first.forget_truth_ratio, second.forget_truth_ratio)


def test_report_by_hand():
    def log(gt, para, pert, rouge):
        return {
            "avg_gt_loss": gt,
            "avg_paraphrased_loss": para,
            "average_perturb_loss": pert,
            "rougeL_recall": rouge,
        }

    one = log([0.5, 1.0], [0.6, 1.2], [[2.0, 3.0], [0.2, 1.0]], [0.4, 0.8])
    names = (
        "eval_log.json",
        "eval_log_forget.json",
        "eval_real_author_wo_options.json",
        "eval_real_world_wo_options.json",
    )
    report = unlearn.tofu_report(dict.fromkeys(names, one))
    ratio = np.exp([0.6 - 2.5, 1.2 - 0.6])
    np.testing.assert_allclose(report.forget_truth_ratio, ratio)
    right = np.exp([-0.5, -1.0])
    wrong = np.exp(-np.array([[2.0, 3.0], [0.2, 1.0]])).sum(1)
    useful = np.maximum(0, 1 - ratio).mean()
    expected = {"prob": right.mean(), "rouge": 0.6, "truth_ratio": useful}
    options = (right / (right + wrong)).mean()
    assert report.metrics["retain"] == pytest.approx(expected)
    assert report.metrics["real_authors"] == pytest.approx(expected | {"prob": options})
    score = np.mean([ratio[0], 1 / ratio[1]])
    assert report.metrics["forget"] == pytest.approx(expected | {"truth_ratio": score})
    nine = [right.mean(), 0.6, useful, options, 0.6, useful, options, 0.6, useful]
    np.testing.assert_allclose(report.model_utility, hmean(nine))


def test_a_collapsed_model_gives_numbers():
    logs = unlearn.load_tofu_logs("retain99")
    dead = {
        name: {
            field: (1000 * np.ones(np.shape(rows)) + 600 * np.asarray(rows))
            if "loss" in field
            else np.zeros(len(rows))
            for field, rows in log.items()
        }
        for name, log in logs.items()
    }
    report = unlearn.tofu_report(dead, logs)
    assert report.model_utility == 0
    assert np.isfinite(report.forget_truth_ratio).all()
    assert 0 <= report.forget_quality <= 1
    assert 0 < report.metrics["real_authors"]["prob"] < 1


def test_missing_parts_are_named():
    logs = unlearn.load_tofu_logs("retain99")
    with pytest.raises(ValueError, match=r"no eval_log_forget.json \(the forget set\)"):
        unlearn.tofu_report({k: v for k, v in logs.items() if k != "eval_log_forget.json"})
    broken = logs | {"eval_log.json": {"avg_gt_loss": [1.0]}}
    with pytest.raises(ValueError, match=r"eval_log.json has no avg_paraphrased_loss"):
        unlearn.tofu_report(broken)


@hypothesis.given(
    st.lists(st.floats(0.01, 9), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 9), min_size=6, max_size=6),
)
def test_truth_ratio_means(para, pert):
    pert = np.reshape(pert, (3, 2))
    geometric = np.exp(-pert.mean(1)) / np.exp(-np.array(para))
    arithmetic = np.exp(-pert).mean(1) / np.exp(-np.array(para))
    np.testing.assert_allclose(unlearn.truth_ratio(para, pert), geometric, rtol=1e-9)
    got = unlearn.truth_ratio(para, pert, mean="arithmetic")
    np.testing.assert_allclose(got, arithmetic, rtol=1e-9)
    assert (got >= geometric * (1 - 1e-9)).all()


def test_truth_ratios_of_hopeless_answers_are_finite():
    ratio = unlearn.truth_ratio([5000.0, 0.0], [[0.0], [5000.0]])
    assert np.isfinite(ratio).all()
    assert (ratio > 0).all()
    np.testing.assert_allclose(unlearn.truth_ratio([900.0], [[901.0]]), np.exp(-1))


def test_truth_ratio_scores():
    ratio = np.array([0.5, 2.0, 4.0])
    np.testing.assert_allclose(unlearn.truth_ratio_score(ratio), (0.5 + 0.5 + 0.25) / 3)
    np.testing.assert_allclose(unlearn.truth_ratio_score(ratio, kind="utility"), 0.5 / 3)
    assert unlearn.truth_ratio_score(np.zeros(2)) == 0
    for bad in ([], [-1.0], [np.nan]):
        with pytest.raises(ValueError, match="truth ratios must be >= 0"):
            unlearn.truth_ratio_score(bad)


def test_forget_quality_is_the_two_sample_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.5, size=60)
    expected = ks_2samp(a, b)
    assert unlearn.forget_quality(a, b) == (expected.pvalue, expected.statistic)
    for bad in ([], [1.0, np.nan], [np.inf]):
        with pytest.raises(ValueError, match="ratio_unlearned must hold finite numbers"):
            unlearn.forget_quality(bad, b)
        with pytest.raises(ValueError, match="ratio_retrained must hold finite numbers"):
            unlearn.forget_quality(b, bad)


def test_forget_quality_of_very_different_samples_does_not_warn():
    a, b = np.arange(300.0), 1000 + np.arange(300.0)
    assert 0 <= unlearn.forget_quality(a, b).pvalue < 1e-100


def test_model_utility():
    np.testing.assert_allclose(unlearn.model_utility([0.2, 0.5, 0.9]), hmean([0.2, 0.5, 0.9]))
    assert unlearn.model_utility([0.5, 0.0]) == 0
    for bad in ([], [-0.1], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="utilities must be finite"):
            unlearn.model_utility(bad)


def test_probabilities():
    np.testing.assert_allclose(unlearn.normalized_prob([-6.0, 0.0], [3, 0]), [np.exp(-2), 1])
    got = unlearn.option_prob([0.3, 0.0], [[0.1, 0.2], [0.0, 0.0]])
    np.testing.assert_allclose(got, [0.5, 0])
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3, 2\)"):
        unlearn.option_prob(np.ones(2), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"logp \(2,\), length \(3,\)"):
        unlearn.normalized_prob(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="mean must be one of geometric, arithmetic"):
        unlearn.truth_ratio(np.ones(2), np.ones((2, 2)), mean="harmonic")
    with pytest.raises(ValueError, match="kind must be one of forget, utility"):
        unlearn.truth_ratio_score(np.ones(2), kind="both")
