import dataclasses

import jax
import numpy as np
import pytest

from jaxlab import bandits

FAST = bandits.TrustConfig(num_radii=12, decay=1.5, num_samples=200, mode="joint")


def heterogeneous(key, num_arms=30):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=num_arms).astype(np.float32)
    count = rng.integers(1, 6, num_arms)
    noise_var = rng.uniform(0.2, 2.0, num_arms).astype(np.float32)
    return mean, bandits.draw_stats(key, mean, noise_var, count)


def test_trust_is_the_composition_of_its_parts():
    _, stats = heterogeneous(jax.random.key(0))
    key = jax.random.key(1)
    whole = bandits.trust(key, stats, FAST)
    radii = bandits.radius_grid(stats.se2, 12, 1.5)
    penalty = bandits.supremum_quantile(
        bandits.sample_suprema(key, stats.se2, radii, 200), 0.1, "joint"
    )
    parts = bandits.trust_with_penalty(stats, radii, penalty)
    for got, want in zip(whole, parts, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    under_jit = jax.jit(bandits.trust, static_argnames="config")(key, stats, config=FAST)
    np.testing.assert_allclose(under_jit.policy, whole.policy, atol=1e-5)


def test_levels_and_grids_may_be_traced():
    _, stats = heterogeneous(jax.random.key(0))
    radii, penalty = bandits.radius_grid(stats.se2, 6), np.linspace(0.3, 0.0, 6)
    level = jax.jit(bandits.trust_with_penalty)(stats, radii, penalty, 0.05)
    want = bandits.trust_with_penalty(stats, radii, penalty, 0.05)
    np.testing.assert_allclose(level.lower_bound, want.lower_bound, rtol=1e-5)
    grid = jax.vmap(lambda decay: bandits.radius_grid(stats.se2, 6, decay))(np.array([1.1, 1.5]))
    np.testing.assert_allclose(grid[1], bandits.radius_grid(stats.se2, 6, 1.5), rtol=1e-5)


def test_result_by_its_definition():
    _, stats = heterogeneous(jax.random.key(2))
    radii = bandits.radius_grid(stats.se2, 6)
    penalty = np.linspace(0.3, 0.0, 6).astype(np.float32)
    result = bandits.trust_with_penalty(stats, radii, penalty, delta_ref=0.05)
    gain = np.asarray(bandits.trust_region_support(stats.mean, stats.se2, radii)) - penalty
    assert result.index == gain.argmax()
    assert result.radius == radii[gain.argmax()]
    se2, mean = np.asarray(stats.se2, np.float64), np.asarray(stats.mean, np.float64)
    reference = 1 / se2 / np.sum(1 / se2)
    bound = reference @ mean - np.sqrt(2 * np.log(20) / np.sum(1 / se2))
    np.testing.assert_allclose(result.reference_lower_bound, bound, rtol=1e-5)
    np.testing.assert_allclose(result.lower_bound, bound + gain.max(), rtol=1e-5)
    np.testing.assert_allclose(result.policy.sum(), 1, rtol=1e-5)
    delta = bandits.trust_region_argmax(stats.mean, stats.se2, result.radius)
    np.testing.assert_allclose(result.policy, reference + delta, atol=1e-5)


def test_the_reference_is_kept_where_noise_explains_everything():
    _, stats = heterogeneous(jax.random.key(3))
    radii = bandits.radius_grid(stats.se2, 5)
    result = bandits.trust_with_penalty(stats, radii, np.full(5, 1e3))
    assert result.index == -1
    assert result.radius == 0
    np.testing.assert_allclose(result.policy, result.reference, atol=1e-6)
    assert result.lower_bound == result.reference_lower_bound


def test_certificate_holds_with_its_probability():
    mean, stats = heterogeneous(jax.random.key(4))
    calibrated = bandits.trust(jax.random.key(5), stats, FAST)
    radii, penalty = calibrated.radii, calibrated.penalty

    def violated(key):
        fresh = bandits.draw_stats(key, mean, stats.noise_var, stats.count)
        result = bandits.trust_with_penalty(fresh, radii, penalty)
        return bandits.policy_value(result.policy, mean) < result.lower_bound

    rate = jax.vmap(violated)(jax.random.split(jax.random.key(6), 3000)).mean()
    assert rate <= 0.2


def test_one_sample_per_arm_beats_any_single_arm():
    instance = bandits.good_bad_instance(jax.random.key(0), 3000)
    config = dataclasses.replace(FAST, num_radii=24, decay=1.25)
    result = bandits.trust(jax.random.key(1), instance.stats, config)
    value = bandits.policy_value(result.policy, instance.mean)
    pessimist = bandits.lcb(instance.stats)
    assert value > 0.8
    assert result.lower_bound <= value
    assert result.lower_bound > result.reference_lower_bound + 0.05
    assert value > bandits.policy_value(pessimist.policy, instance.mean) + 0.5
    assert 0 <= result.index < 23


def test_lcb_against_numpy():
    stats = bandits.ArmStats(
        np.array([1.0, 2.0, np.nan, 0.5]), np.array([10, 2, 0, 40]), np.full(4, 0.5)
    )
    result = bandits.lcb(stats, 0.2)
    width = np.sqrt(2 * 0.5 / np.array([10, 2, 40]) * np.log(2 * 3 / 0.2))
    want = np.array([1.0, 2.0, 0.5]) - width
    np.testing.assert_allclose(result.lower_bounds[np.array([0, 1, 3])], want, rtol=1e-5)
    assert result.lower_bounds[2] == -np.inf
    assert result.arm == np.array([0, 1, 3])[want.argmax()]
    np.testing.assert_array_equal(result.policy, np.eye(4)[result.arm])
    np.testing.assert_array_equal(bandits.greedy_policy(stats), np.eye(4)[1])
    np.testing.assert_allclose(bandits.behavior_policy(stats), np.array([10, 2, 0, 40]) / 52)
    assert bandits.policy_value(np.array([0.5, 0.5, 0, 0]), stats.mean) == 1.5


def test_best_certified_takes_the_larger_bound():
    counts = np.array([100] + [1] * 100)
    mean = np.array([1.0] + [0.0] * 100, np.float32)
    stats = bandits.draw_stats(jax.random.key(0), mean, 1.0, counts)
    result = bandits.trust(jax.random.key(1), stats, FAST)
    best = bandits.best_certified(stats, result)
    pessimist = bandits.lcb(stats)
    assert best.source == 1
    assert best.lower_bound == pessimist.lower_bound > result.lower_bound
    np.testing.assert_array_equal(best.policy, pessimist.policy)
    instance = bandits.good_bad_instance(jax.random.key(0), 101).stats
    result = bandits.trust(jax.random.key(1), instance, FAST)
    best = bandits.best_certified(instance, result)
    assert best.source == 0
    np.testing.assert_array_equal(best.policy, result.policy)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"delta": 0.0}, r"delta must lie in \(0, 1\), got 0.0"),
        ({"delta_ref": 1.5}, "delta_ref must lie"),
        ({"num_radii": 0}, "num_radii must be >= 1"),
        ({"decay": 1.0}, "decay must be > 1"),
        ({"mode": "max"}, "mode must be one of"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"num_samples": 100}, "num_samples must be >= 199"),
        ({"num_samples": 10, "mode": "joint"}, "num_samples must be >= 18"),
    ],
)
def test_config_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        bandits.TrustConfig(**kwargs)


def test_trust_refuses_bad_stats():
    stats = bandits.ArmStats(np.array([1.0, np.nan]), np.array([1, 1]), np.ones(2))
    with pytest.raises(ValueError, match="values hold NaN"):
        bandits.trust(jax.random.key(0), stats, FAST)
    zero_noise = stats._replace(mean=np.ones(2), noise_var=np.zeros(2))
    with pytest.raises(ValueError, match="se2 must be positive"):
        bandits.trust(jax.random.key(0), zero_noise, FAST)
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        bandits.trust_with_penalty(stats._replace(mean=np.ones(2)), np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="delta must lie"):
        bandits.lcb(stats._replace(mean=np.ones(2)), delta=0)
    equal = bandits.trust(jax.random.key(0), stats._replace(mean=np.ones(2)), FAST)
    np.testing.assert_allclose(equal.policy, [0.5, 0.5])
