import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import align


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.data())
def test_expected_max_is_the_mean_over_all_subsets(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    brute = np.mean([max(subset) for subset in itertools.combinations(scores, n)])
    assert align.expected_max(scores, n) == pytest.approx(brute, abs=1e-9)


def test_expected_max_over_leading_axes_and_large_m():
    scores = np.random.default_rng(0).normal(size=(3, 2, 4000))
    np.testing.assert_allclose(align.expected_max(scores, 1), scores.mean(-1), atol=1e-12)
    np.testing.assert_allclose(align.expected_max(scores, 4000), scores.max(-1), rtol=1e-12)
    # E max of n uniform order statistics: i / (m + 1) has the mean n / (n + 1).
    uniform = np.arange(1, 4001) / 4001
    assert align.expected_max(uniform, 1500) == pytest.approx(1500 / 1501, rel=1e-9)


def test_expected_max_allows_minus_infinity():
    assert align.expected_max([-np.inf, 1.0, 2.0], 1) == -np.inf
    assert align.expected_max([-np.inf, 1.0, 2.0], 2) == pytest.approx(5 / 3)
    # The weight of the lowest of 4096 is below the smallest float64, and still not 0.
    scores = np.arange(4096.0)
    scores[:300] = -np.inf
    rows = np.stack([scores, np.arange(4096.0)])
    np.testing.assert_array_equal(np.isneginf(align.expected_max(rows, 256)), [True, False])


@pytest.mark.parametrize("n", [0, 4, -1])
def test_expected_max_refuses(n):
    with pytest.raises(ValueError, match=f"n must be from 1 to the 3 scores at hand, got {n}"):
        align.expected_max([1.0, 2.0, 3.0], n)


def test_equivalent_n_inverts_the_curve():
    scores = np.random.default_rng(1).normal(size=(5, 300))
    for n in (1, 2, 17, 256, 300):
        target = align.expected_max(scores, n).mean()
        assert align.equivalent_n(scores, target) == pytest.approx(n, rel=1e-9)
    low, high = (align.expected_max(scores, n).mean() for n in (8, 9))
    assert align.equivalent_n(scores, (low + high) / 2) == pytest.approx(math.sqrt(72))
    assert align.equivalent_n(scores, -9.0) == 1.0
    assert align.equivalent_n(scores, 9.0) == math.inf
    assert align.equivalent_n([[-math.inf, 1.0, 2.0]], 1.2) == 2.0
    with pytest.raises(ValueError, match=r"scores must be \[p, n\]"):
        align.equivalent_n(scores[0], 1.0)


def test_improvement_score():
    baseline = np.array([[0.0, 1.0, 2.0], [10.0, 30.0, 20.0]])
    assert align.improvement_score(baseline, baseline.max(1)) == 100
    assert align.improvement_score(baseline, [3.0, 30.0]) == pytest.approx(125)
    with pytest.raises(ValueError, match=r"rows \[1\] are constant"):
        align.improvement_score([[0.0, 1.0], [2.0, 2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match="one score per row"):
        align.improvement_score(baseline, [1.0])
    with pytest.raises(ValueError, match=r"must be \[p, n\]"):
        align.improvement_score([1.0, 2.0], [1.0])


def test_correlations_against_scipy():
    rng = np.random.default_rng(2)
    partial = np.round(rng.normal(size=200), 1)  # with ties
    final = partial + rng.normal(size=200)
    pearson, tau = align.partial_final_correlation(partial, final)
    assert pearson == pytest.approx(scipy.stats.pearsonr(partial, final).statistic)
    signs = np.sign(np.subtract.outer(partial, partial) * np.subtract.outer(final, final))
    untied = [np.subtract.outer(x, x) != 0 for x in (partial, final)]
    assert tau == pytest.approx(signs.sum() / math.sqrt(untied[0].sum() * untied[1].sum()))
    assert all(map(math.isnan, align.partial_final_correlation(np.zeros(5), np.arange(5))))
    with pytest.raises(ValueError, match="m >= 2"):
        align.partial_final_correlation([1.0], [1.0])
    with pytest.raises(ValueError, match="m >= 2"):
        align.partial_final_correlation(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ("rho", "alpha", "simulated", "tolerance"),
    [(0.27, 0.5, 0.82, 0.04), (0.5, 0.75, 0.87, 0.04), (0.8, 0.9, 0.98, 0.03)],
)
def test_survival_against_simulation(rho, alpha, simulated, tolerance):
    rng = np.random.default_rng(3)
    n, runs = 1000, 2000
    final = rng.normal(size=(runs, n))
    partial = rho * final + math.sqrt(1 - rho**2) * rng.normal(size=(runs, n))
    best = final.argmax(axis=1)
    rank = (partial > partial[np.arange(runs), best][:, None]).sum(axis=1)
    measured = np.mean(rank < align.n_keep(n, alpha))
    formula = align.survival_probability(n, alpha, rho)
    assert measured == pytest.approx(simulated, abs=0.03)
    assert formula == pytest.approx(measured, abs=tolerance)


def test_survival_at_the_edges():
    assert align.survival_probability(1000, 0.0, 0.1) == 1.0
    assert align.survival_probability(1000, 0.9, 1.0) == 1.0
    assert align.survival_probability(1, 0.5, 0.7) == pytest.approx(0.5)
    two = 1 / math.sqrt(math.pi)  # E max of two normals
    expected = scipy.stats.norm.cdf(0.6 * two / 0.8)
    assert align.survival_probability(2, 0.5, 0.6) == pytest.approx(expected)
    for arguments in ((0, 0.5, 0.5), (5, 1.0, 0.5), (5, 0.5, 1.1)):
        with pytest.raises(ValueError, match="need n >= 1"):
            align.survival_probability(*arguments)


@pytest.mark.parametrize(
    ("growth", "halved"), [(32, 12.8), (64, 64 / 3), (128, 256 / 7), (256, 64)]
)
def test_token_saving_of_halving(growth, halved):
    assert align.token_saving(growth, 0.5) == pytest.approx(halved)
    assert align.token_saving(growth, 0.75) / halved == pytest.approx(4 / 3)
    assert align.token_saving(growth, 0.9) / halved == pytest.approx(1.845, abs=1e-3)


def test_token_saving_is_what_the_schedule_computes():
    cfg = align.SpecRejConfig(max_new_tokens=1022, capacity_tokens=256 * 8, n_init=256)
    rounds = align.plan_schedule(2, cfg)
    first, *later = [r.bucket * r.new_tokens for r in rounds]
    assert 256 * 1022 / sum(later) == pytest.approx(align.token_saving(1024 / 8, 0.5), rel=0.01)
    assert 256 * 1022 / (first + sum(later)) < align.token_saving(1024 / 8, 0.5)
    with pytest.raises(ValueError, match="growth > 1"):
        align.token_saving(1.0, 0.5)


def test_best_of_n_kl_bound_holds_on_a_finite_distribution():
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(50))
    for n in (1, 2, 8, 64):
        cumulative = np.concatenate([[0], np.cumsum(p)])
        best = np.diff(cumulative**n)  # outcomes in ascending order of reward
        kl = np.sum(best * np.log(np.maximum(best, 1e-300) / p))
        assert kl <= align.bon_kl_bound(n) + 1e-12
    assert align.bon_kl_bound(64) == pytest.approx(math.log(64) - 63 / 64)
    with pytest.raises(ValueError, match="n must be >= 1"):
        align.bon_kl_bound(0)
