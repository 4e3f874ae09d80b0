import jax
import numpy as np
import pytest

from jaxlab import bandits


def test_proxies_bound_the_moment_generating_function():
    assert bandits.bounded_sigma(-1.0, 3.0) == 2.0
    t = np.linspace(-30, 30, 4001)
    for p in (0.0038, 0.1, 0.5, 0.7):
        sigma = float(bandits.bernoulli_sigma(p))
        log_mgf = np.log1p(p * np.expm1(t)) - p * t
        assert (log_mgf <= sigma**2 * t**2 / 2 + 1e-6).all()
        # And no smaller one does: it touches at t = 2 ln((1 - p) / p).
        touch = 2 * np.log((1 - p) / p)
        if p != 0.5:
            got = np.log1p(p * np.expm1(touch)) - p * touch
            np.testing.assert_allclose(got, sigma**2 * touch**2 / 2, rtol=1e-4)


def test_values_of_the_specification_symmetry_and_traces():
    np.testing.assert_allclose(bandits.bernoulli_sigma(0.0038), 0.2985, atol=5e-5)
    p = np.array([0.4995, 0.5, 0.5005])
    np.testing.assert_allclose(bandits.bernoulli_sigma(p), 0.5, rtol=1e-5)
    sides = jax.jit(bandits.bernoulli_sigma)(np.array([0.2, 0.8]))
    np.testing.assert_allclose(sides[0], sides[1], rtol=1e-5)


def test_refuses():
    with pytest.raises(ValueError, match=r"p must lie in \(0, 1\), got 0"):
        bandits.bernoulli_sigma(0)
    with pytest.raises(ValueError, match="low must be below high, got 1 and 1"):
        bandits.bounded_sigma(1, 1)
