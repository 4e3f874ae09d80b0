import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import bandits
from tests.bandits.bisection import solve


def test_rows_are_the_stated_draws_whatever_the_batch():
    se2 = np.array([1.0, 0.5, np.inf, 2.0], np.float32)
    radii = bandits.radius_grid(se2, 3)
    key = jax.random.key(0)
    want = bandits.sample_suprema(key, se2, radii, 10)
    for batch_size in (1, 3, 10):
        got = bandits.sample_suprema(key, se2, radii, 10, batch_size=batch_size)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    seventh = jax.random.normal(jax.random.split(key, 10)[7], (4,), jnp.float32)
    noise = np.where(np.isfinite(se2), np.sqrt(se2) * seventh, 0)
    for column, radius in enumerate(radii):
        np.testing.assert_allclose(want[7, column], solve(noise, se2, radius)[0], rtol=1e-4)


def test_tiny_radius_gives_a_chi_distribution_and_a_large_one_the_maximum():
    num_arms, draws = 6, 4000
    se2 = np.ones(num_arms, np.float32)
    radii = np.array([10.0, 1e-3], np.float32)
    suprema = bandits.sample_suprema(jax.random.key(1), se2, radii, draws)
    scaled = np.square(suprema[:, 1] / 1e-3)
    np.testing.assert_allclose(scaled.mean(), num_arms - 1, rtol=0.05)
    normal = np.random.default_rng(0).normal(size=(200_000, num_arms))
    want = (normal.max(1) - normal.mean(1)).mean()
    np.testing.assert_allclose(suprema[:, 0].mean(), want, rtol=0.03)


@pytest.mark.parametrize(("t", "width"), [(0.1, 0.3162), (1, 0.9407), (9, 1.8669), (99, 2.7542)])
def test_width_of_many_equal_arms(t, width):
    np.testing.assert_allclose(bandits.asymptotic_width(t), width, atol=6e-5)
    num_arms = 4000
    radius = np.sqrt(np.array([t / num_arms], np.float32))
    suprema = bandits.sample_suprema(jax.random.key(0), jnp.ones(num_arms), radius, 60)
    np.testing.assert_allclose(suprema.mean(), width, rtol=0.02)


def test_width_is_smooth_elementwise_and_traced():
    t = np.geomspace(1e-6, 1e3, 400)
    width = jax.jit(bandits.asymptotic_width)(t)
    assert (np.diff(width) > 0).all()
    assert bandits.asymptotic_width(0) == 0
    np.testing.assert_allclose(width[:100], np.sqrt(t[:100]), rtol=1e-3)
    steps = np.diff(np.log(width)) / np.diff(np.log(t))
    assert np.abs(np.diff(steps)).max() < 0.02


def test_union_is_an_order_statistic_at_a_level_split_over_radii():
    suprema = np.stack([np.arange(1.0, 100.0), 10 * np.arange(1.0, 100.0)], axis=1)
    got = bandits.supremum_quantile(np.random.default_rng(0).permutation(suprema), 0.1)
    np.testing.assert_array_equal(got, [95, 950])  # ceil(0.95 * 100)


def test_joint_against_its_definition():
    suprema = np.random.default_rng(1).gamma(2.0, size=(101, 3)).astype(np.float32)
    suprema[:, 2] = 0.25
    half = 50
    mean, std = suprema[:half].mean(0), suprema[:half].std(0)
    scores = np.sort(((suprema[half:, :2] - mean[:2]) / std[:2]).max(1))
    level = scores[int(np.ceil(0.9 * 52 - 1e-9)) - 1]
    want = np.append(np.maximum(mean[:2] + std[:2] * level, 0), 0.25)
    got = bandits.supremum_quantile(suprema, 0.1, "joint")
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize(("mode", "low"), [("union", 0.0), ("joint", 0.06)])
def test_coverage_is_as_stated(mode, low):
    """Fresh calibrations against fresh draws; joint must not be loose either."""
    se2 = np.array([1.0, 1.0, 0.3, 0.1, 3.0], np.float32)
    radii = bandits.radius_grid(se2, 5)
    sample = jax.jit(lambda key: bandits.sample_suprema(key, se2, radii, 200))
    quantile = jax.jit(lambda x: bandits.supremum_quantile(x, 0.1, mode))
    failures = []
    for key in jax.random.split(jax.random.key(2), 60):
        calibration, fresh = jax.random.split(key)
        penalty = quantile(sample(calibration))
        failures.append((sample(fresh) > penalty).any(1).mean())
    rate, error = np.mean(failures), np.std(failures) / np.sqrt(60)
    assert low <= rate <= 0.1 + 3 * error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: bandits.supremum_quantile(x[0], 0.1), r"\[M, R\], got shape \(2,\)"),
        (lambda x: bandits.supremum_quantile(x, 1.0), r"delta must lie in \(0, 1\), got 1.0"),
        (lambda x: bandits.supremum_quantile(x, 0.1, "both"), "mode must be one of union, joint"),
        (lambda x: bandits.supremum_quantile(x, 0.1), "num_samples must be >= 19"),
        (lambda x: bandits.supremum_quantile(x, 0.1, "joint"), "num_samples must be >= 18"),
        (
            lambda x: bandits.sample_suprema(jax.random.key(0), np.ones(2), np.ones(1), 0),
            "num_samples must be >= 1",
        ),
        (
            lambda x: bandits.sample_suprema(jax.random.key(0), np.ones(2), 1.0, 5),
            r"radii must be a vector \[R\]",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((10, 2)))
