import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import bandits
from tests.bandits.bisection import solve


def problem(seed, num_arms, decades=2.0, offset=0.0, absent=0):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=num_arms) + offset).astype(np.float32)
    se2 = (10 ** rng.uniform(-decades / 2, decades / 2, num_arms)).astype(np.float32)
    se2[rng.choice(num_arms, absent, replace=False)] = np.inf
    return values, se2


@pytest.mark.parametrize("num_arms", [1, 2, 5, 40, 700])
@pytest.mark.parametrize(
    ("decades", "offset", "absent"), [(0, 0, 0), (2, 300, 0), (8, 0, 0), (2, 0, 1)]
)
def test_support_and_maximiser_against_bisection(num_arms, decades, offset, absent):
    if absent >= num_arms:
        pytest.skip("nothing would be left")
    values, se2 = problem(num_arms, num_arms, decades, offset, absent)
    radii = np.append(bandits.radius_grid(se2, 8, 2.0), np.float32(0))
    got = bandits.trust_region_support(values, se2, radii)
    for radius, improvement in zip(radii, got, strict=True):
        want, delta = solve(values, se2, radius)
        scale = max(np.abs(want), 1e-6 * np.ptp(values[np.isfinite(se2)]) + 1e-30)
        assert abs(improvement - want) <= 1e-5 * scale
        found = bandits.trust_region_argmax(values, se2, radius)
        np.testing.assert_allclose(found, delta, atol=2e-5)
        assert abs(found.sum()) < 1e-5
        assert (bandits.reference_policy(se2) + found >= -1e-7).all()


@given(st.integers(0, 10_000), st.sampled_from([3, 30]), st.floats(0.01, 1.0))
@settings(max_examples=40)
def test_maximiser_is_feasible_and_attains_the_support(seed, num_arms, fraction):
    values, se2 = problem(seed, num_arms)
    radius = fraction * bandits.radius_grid(se2, 1)[0]
    delta = np.asarray(bandits.trust_region_argmax(values, se2, radius), np.float64)
    assert np.sum(delta**2 * se2) <= float(radius) ** 2 * (1 + 1e-4)
    support = bandits.trust_region_support(values, se2, radius)
    np.testing.assert_allclose(delta @ values, support, rtol=1e-4, atol=1e-5)


def test_reference_has_least_variance_and_the_identity_of_variances_holds():
    values, se2 = problem(0, 12)
    mu = np.asarray(bandits.reference_policy(se2), np.float64)
    np.testing.assert_allclose(mu, (1 / se2) / np.sum(1 / se2), rtol=1e-6)
    delta = np.asarray(bandits.trust_region_argmax(values, se2, 0.3), np.float64)
    left = np.sum((mu + delta) ** 2 * se2)
    np.testing.assert_allclose(left, 1 / np.sum(1 / se2) + np.sum(delta**2 * se2), rtol=1e-5)


def test_ends_of_the_path():
    values, se2 = problem(3, 25)
    mu = bandits.reference_policy(se2)
    largest = bandits.radius_grid(se2)[0]
    for radius in (largest, 10 * largest):
        got = bandits.trust_region_support(values, se2, radius)
        np.testing.assert_allclose(got, values.max() - mu @ values, rtol=1e-5)
    # Near zero no weight reaches zero: the support is linear in the radius.
    tiny = 1e-4 * largest
    centred = (values - mu @ values) / np.sqrt(se2)
    want = tiny * np.linalg.norm(centred)
    np.testing.assert_allclose(bandits.trust_region_support(values, se2, tiny), want, rtol=1e-4)
    assert bandits.trust_region_support(values, se2, 0.0) == 0


def test_support_is_concave_increasing_and_equivariant():
    values, se2 = problem(4, 30)
    radii = np.linspace(0, float(bandits.radius_grid(se2)[0]), 50, dtype=np.float32)
    curve = np.asarray(bandits.trust_region_support(values, se2, radii), np.float64)
    assert (np.diff(curve) >= -1e-6).all()
    assert (np.diff(curve, 2) <= 1e-5).all()
    scaled = bandits.trust_region_support(5 * values, 25 * se2, 5 * radii)
    np.testing.assert_allclose(scaled, 5 * curve, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "improvement"),
    [([2.0, 2.0, 2.0, 2.0], 0.0), ([1.0, 1.0, 0.0, 0.0], 0.5), ([3.0, 0.0, 0.0, 0.0], 2.25)],
)
def test_ties(values, improvement):
    se2 = np.ones(4)
    largest = bandits.radius_grid(se2)[0]
    got = bandits.trust_region_support(values, se2, largest)
    np.testing.assert_allclose(got, improvement, rtol=1e-6)
    delta = bandits.trust_region_argmax(values, se2, largest)
    assert np.isfinite(delta).all()
    np.testing.assert_allclose(delta @ np.array(values), improvement, atol=1e-6)


def test_one_arm_has_nowhere_to_go():
    assert (bandits.radius_grid([0.5], 3) == 0).all()
    assert bandits.trust_region_support([1.0], [0.5], 2.0) == 0
    np.testing.assert_array_equal(bandits.trust_region_argmax([1.0], [0.5], 2.0), [0.0])


def test_padding_changes_nothing():
    values, se2 = problem(5, 20)
    padded = np.append(values, [np.nan, 1e9, values.max()]).astype(np.float32)
    padded_se2 = np.append(se2, [np.inf] * 3).astype(np.float32)
    radii = bandits.radius_grid(se2, 6)
    np.testing.assert_array_equal(radii, bandits.radius_grid(padded_se2, 6))
    np.testing.assert_allclose(
        bandits.trust_region_support(padded, padded_se2, radii),
        bandits.trust_region_support(values, se2, radii),
        rtol=1e-6,
    )
    delta = bandits.trust_region_argmax(padded, padded_se2, radii[2])
    np.testing.assert_allclose(delta[:20], bandits.trust_region_argmax(values, se2, radii[2]))
    np.testing.assert_array_equal(delta[20:], 0)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_gradient_of_the_support_is_the_maximiser(fraction):
    values, se2 = problem(6, 30)
    radius = fraction * bandits.radius_grid(se2)[0]
    grad = jax.grad(bandits.trust_region_support)(jnp.asarray(values), se2, radius)
    delta = bandits.trust_region_argmax(values, se2, radius)
    np.testing.assert_allclose(grad, delta, atol=1e-5)


def test_gradients_are_finite_at_ties_and_at_radius_zero():
    for values, radius in ((np.ones(4), 0.3), (np.array([1.0, 1, 0, 0]), 0.5), (np.eye(4)[0], 0.0)):
        grad = jax.grad(bandits.trust_region_support)(jnp.asarray(values), np.ones(4), radius)
        assert np.isfinite(grad).all()


def test_jit_and_vmap():
    values, se2 = problem(7, 15)
    radii = bandits.radius_grid(se2, 5)
    want = bandits.trust_region_support(values, se2, radii)
    np.testing.assert_allclose(jax.jit(bandits.trust_region_support)(values, se2, radii), want)
    stacked = np.stack([values, -values])
    batched = jax.vmap(bandits.trust_region_support, in_axes=(0, None, None))(stacked, se2, radii)
    np.testing.assert_allclose(batched[0], want, rtol=1e-6)
    over_radii = jax.vmap(bandits.trust_region_argmax, in_axes=(None, None, 0))(values, se2, radii)
    np.testing.assert_allclose(over_radii @ values, want, rtol=1e-4, atol=1e-5)
    with jax.enable_x64(True):
        assert bandits.trust_region_support(values.astype(float), se2, radii).dtype == jnp.float64


GOOD = np.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bandits.reference_policy([1.0, -1.0]), "se2 must be positive, got -1"),
        (lambda: bandits.reference_policy([np.nan]), "se2 must be positive, got nan"),
        (lambda: bandits.reference_policy([0.0]), "se2 must be positive, got 0"),
        (lambda: bandits.reference_policy([np.inf]), "se2 is infinite for every arm"),
        (lambda: bandits.reference_policy(np.ones((2, 2))), r"se2 must be a vector .*\(2, 2\)"),
        (lambda: bandits.radius_grid(GOOD, 0), "num_radii must be >= 1, got 0"),
        (lambda: bandits.radius_grid(GOOD, 3, 1.0), "decay must be > 1, got 1.0"),
        (lambda: bandits.trust_region_support(np.ones(2), GOOD, 1.0), r"values \(2,\), se2 \(3,\)"),
        (lambda: bandits.trust_region_support([1, np.nan, 0], GOOD, 1.0), "values hold NaN"),
        (lambda: bandits.trust_region_support(GOOD, GOOD, -1.0), "radii must be >= 0, got -1"),
        (lambda: bandits.trust_region_support(GOOD, GOOD, np.nan), "radii must be >= 0, got nan"),
        (lambda: bandits.trust_region_argmax(GOOD, GOOD, [1.0]), "radius must be a scalar"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def degenerate(kind, num_arms):
    """Problems whose maximiser is not unique, sits at a vertex, or has arms that never enter."""
    values, se2 = problem(9, num_arms)
    match kind:
        case "random":
            pass
        case "ties":
            values = np.round(values)
        case "two levels, one variance":
            values, se2 = np.arange(num_arms, dtype=np.float32) % 2, np.ones_like(se2)
        case "one arm above":
            values = np.zeros_like(values)
            values[num_arms // 2] = 1
        case "a third unseen":
            se2[::3] = np.inf
        case "offset":
            values += 1000
    return values, se2


@pytest.mark.parametrize("num_arms", [3, 7, 300, 10_000, 100_000])
@pytest.mark.parametrize(
    "kind",
    ["random", "ties", "two levels, one variance", "one arm above", "a third unseen", "offset"],
)
def test_against_a_conic_solver(kind, num_arms, from_peer):
    values, se2 = degenerate(kind, num_arms)
    largest = bandits.radius_grid(se2)[0]
    fractions = (0.1,) if num_arms > 10_000 else (0.02, 0.3, 0.999)
    radii = [float(fraction * largest) for fraction in fractions]

    def theirs():
        from tests.bandits import conic

        return {"support": [conic.solve(values, se2, radius) for radius in radii]}

    wanted = from_peer(theirs, "clarabel", rtol=1e-7)["support"]
    for radius, want in zip(radii, wanted, strict=True):
        got = float(bandits.trust_region_support(values, se2, radius))
        assert abs(got - want) <= 1e-6 * max(abs(want), np.spacing(np.float32(values.max()))), want
