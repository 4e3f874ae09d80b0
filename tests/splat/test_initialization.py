import numpy as np
import pytest

from jaxlab import splat


def test_points_become_gaussians():
    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(9, 3)), rng.uniform(size=(9, 3))
    cloud, alive = splat.init_cloud(points, colors, 12, sh_degree=1, initial_opacity=0.2)
    assert alive.tolist() == [True] * 9 + [False] * 3
    np.testing.assert_allclose(cloud.means[:9], points, atol=1e-6)
    squares = np.sort(((points[:, None] - points) ** 2).sum(-1), 1)[:, 1:4].mean(1)
    np.testing.assert_allclose(np.exp(2 * cloud.log_scales[:9, 0]), squares, rtol=1e-4)
    assert (cloud.log_scales == cloud.log_scales[:, :1]).all()
    np.testing.assert_array_equal(cloud.quats, np.tile([1, 0, 0, 0], (12, 1)))
    np.testing.assert_allclose(1 / (1 + np.exp(-cloud.opacity_logits)), 0.2, rtol=1e-5)
    np.testing.assert_allclose(0.5 + 0.28209479177387814 * cloud.sh[:9, 0], colors, atol=1e-6)
    assert cloud.sh.shape == (12, 4, 3)
    assert all(np.isfinite(x).all() for x in cloud)


def test_duplicated_points_have_finite_scales():
    cloud, _ = splat.init_cloud(np.zeros((5, 3)), np.zeros((5, 3)), 5)
    np.testing.assert_allclose(np.exp(cloud.log_scales), np.sqrt(1e-7), rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "capacity", "message"),
    [
        ((3, 3), 10, "3 points do not fit: at least 4"),
        ((11, 3), 10, "11 points do not fit: at least 4 .* at most the capacity of 10"),
        ((5, 2), 10, r"points and colors must both be \[M, 3\], got \(5, 2\)"),
    ],
)
def test_refuses(shape, capacity, message):
    with pytest.raises(ValueError, match=message):
        splat.init_cloud(np.zeros(shape), np.zeros(shape), capacity)


def test_refuses_what_is_not_finite():
    points = np.random.default_rng(0).normal(size=(5, 3))
    points[2, 1] = np.nan
    with pytest.raises(ValueError, match="points and colors must be finite"):
        splat.init_cloud(points, np.zeros((5, 3)), 8)


def test_compact_keeps_the_living():
    cloud, _ = splat.init_cloud(np.random.default_rng(0).normal(size=(6, 3)), np.zeros((6, 3)), 8)
    alive = np.array([1, 0, 1, 0, 0, 1, 0, 0], bool)
    kept = splat.compact(cloud, alive)
    assert all(isinstance(x, np.ndarray) for x in kept)
    np.testing.assert_array_equal(kept.means, np.asarray(cloud.means)[[0, 2, 5]])
