import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat


@pytest.mark.parametrize("eye", [(3.0, 1.0, 2.0), (0, 0, 5.0), (0, 0, -5.0), (-1.0, 0.001, 0)])
def test_looks_at_the_target(eye):
    target = np.array([0.1, 0.0, 0.0] if eye[2] not in (5.0, -5.0) else [0, 0, 0])
    viewmat = np.asarray(splat.look_at(eye, target))
    turn = viewmat[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-6)
    distance = np.linalg.norm(eye - target)
    np.testing.assert_allclose(viewmat @ [*target, 1], [0, 0, distance, 1], atol=1e-5)
    if abs(eye[2]) < 5:
        above = viewmat @ np.append(target + np.array([0, 0, 0.1]), 1)
        assert above[1] < 0  # up is towards smaller y
        np.testing.assert_allclose(above[0], 0, atol=1e-6)


def test_gradient_along_the_axis_is_finite():
    gradient = jax.grad(lambda eye: splat.look_at(eye).sum())(jnp.array([0.0, 0, 2]))
    assert jnp.isfinite(gradient).all()


def test_orbit():
    cameras = splat.orbit_cameras(
        40, 2.5, 64, 48, fov_degrees=60, min_elevation=-10, max_elevation=80
    )
    turn, shift = cameras.viewmat[:, :3, :3], cameras.viewmat[:, :3, 3]
    eyes = -jnp.einsum("vij,vi->vj", turn, shift)
    np.testing.assert_allclose(np.linalg.norm(eyes, axis=1), 2.5, rtol=1e-5)
    sine = np.asarray(eyes[:, 2] / 2.5)
    np.testing.assert_allclose(np.diff(sine), np.diff(sine).mean(), atol=1e-5)
    assert np.sin(np.radians(-10)) < sine[0] < sine[-1] < np.sin(np.radians(80))
    azimuth = np.unwrap(np.arctan2(eyes[:, 1], eyes[:, 0]))
    np.testing.assert_allclose(np.mod(np.diff(azimuth), 2 * np.pi), np.pi * (3 - 5**0.5), atol=1e-3)
    np.testing.assert_allclose(
        cameras.K[3], [[32 * 3**0.5, 0, 32], [0, 32 * 3**0.5, 24], [0, 0, 1]], rtol=1e-5
    )
    np.testing.assert_allclose(shift, np.tile([0, 0, 2.5], (40, 1)), atol=1e-5)


def test_angles_may_be_traced():
    def orbit(fov, low, high):
        return splat.orbit_cameras(
            3, 2.5, 64, 48, fov_degrees=fov, min_elevation=low, max_elevation=high
        )

    for got, want in zip(jax.jit(orbit)(60.0, -10.0, 80.0), orbit(60, -10, 80), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_refuses():
    with pytest.raises(ValueError, match="num_views, width and height must be >= 1, got 0, 8, 8"):
        splat.orbit_cameras(0, 1.0, 8, 8)
    with pytest.raises(ValueError, match=r"fov_degrees must lie in \(0, 180\), got 180"):
        splat.orbit_cameras(1, 1.0, 8, 8, fov_degrees=180)
