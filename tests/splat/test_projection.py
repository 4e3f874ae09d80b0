import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import splat
from tests.splat.scenes import camera, random_cloud


def test_covariance_is_that_of_a_small_gaussian_seen_through_the_lens():
    # Samples of a small Gaussian, projected one by one, have the linearised covariance.
    cloud = random_cloud(5, scale=0.004)
    view = camera()
    covs = splat.covariance(cloud.log_scales, cloud.quats)
    seen = splat.project_gaussians(cloud.means, covs, *view, 24, 20, eps2d=0.0)
    rng = np.random.default_rng(0)
    for n in range(5):
        points = rng.multivariate_normal(cloud.means[n], covs[n], 100_000)
        local = points @ np.asarray(view.viewmat)[:3, :3].T + np.asarray(view.viewmat)[:3, 3]
        pixels = local @ np.asarray(view.K, np.float64).T
        pixels = pixels[:, :2] / pixels[:, 2:]
        np.testing.assert_allclose(seen.means2d[n], pixels.mean(0), atol=0.01)
        wanted = np.cov(pixels.T)
        np.testing.assert_allclose(seen.cov2d[n], wanted, atol=0.03 * abs(wanted).max())


def test_conics_invert_the_covariance_with_its_filter():
    cloud = random_cloud(30)
    covs = splat.covariance(cloud.log_scales, cloud.quats)
    seen = splat.project_gaussians(cloud.means, covs, *camera(), 24, 20)
    a, b, c = np.asarray(seen.conics, np.float64).T
    conic = np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)
    identity = conic @ np.asarray(seen.cov2d, np.float64)
    np.testing.assert_allclose(identity, np.tile(np.eye(2), (30, 1, 1)), atol=1e-4)
    assert (np.linalg.eigvalsh(np.asarray(seen.cov2d)) >= 0.299).all()


def test_behind_the_camera_is_invalid_and_finite():
    view = splat.Camera(jnp.eye(4), camera().K)
    means = jnp.array([[0, 0, 2.0], [0, 0, 0.0], [1, 1, -3.0], [0, 0, 0.01], [1e6, 0, 0.0]])
    covs = jnp.tile(jnp.eye(3), (5, 1, 1))

    def project(means):
        return splat.project_gaussians(means, covs, *view, 24, 20)

    seen = project(means)
    assert seen.valid.tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(seen.depths, means[:, 2])
    assert all(jnp.isfinite(x).all() for x in seen)
    gradient = jax.grad(lambda m: sum((x * 1.0).sum() for x in project(m)[:3]))(means)
    assert jnp.isfinite(gradient).all()


def test_the_jacobian_stops_at_the_edge_of_the_view():
    view = splat.Camera(jnp.eye(4), jnp.array([[20.0, 0, 12], [0, 20, 10], [0, 0, 1]]))
    covs = jnp.tile(1e-4 * jnp.eye(3), (2, 1, 1))
    edge = 12 / 20 + 0.15 * 24 / 20  # slope at which it is frozen
    means = jnp.array([[edge, 0, 1.0], [50.0, 0, 1.0]])
    seen = splat.project_gaussians(means, covs, *view, 24, 20)
    np.testing.assert_allclose(seen.cov2d[0], seen.cov2d[1], rtol=1e-5)
