import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxlab import splat
from tests.splat.scenes import camera, random_cloud, render


def test_covariances_are_the_definition():
    cloud = random_cloud(20)
    quats = np.asarray(cloud.quats, np.float64)
    frames = Rotation.from_quat(quats[:, [1, 2, 3, 0]]).as_matrix()
    squares = np.exp(2 * np.asarray(cloud.log_scales, np.float64))
    wanted = np.einsum("nij,nj,nkj->nik", frames, squares, frames)
    np.testing.assert_allclose(
        splat.covariance(cloud.log_scales, cloud.quats), wanted, rtol=1e-4, atol=1e-6
    )


def test_canonical_frames_are_the_same_for_all_48_forms():
    rng = np.random.default_rng(0)
    log_scales, quat = np.array([-1.0, 0.3, -2.0], np.float32), rng.normal(size=4)
    frame = Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix()
    wanted = splat.covariance(log_scales, quat.astype(np.float32))
    seen = set()
    for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        for signs in np.array(np.meshgrid(*[[1, -1]] * 3)).reshape(3, -1).T:
            turned = frame[:, order] * signs
            if np.linalg.det(turned) < 0:
                continue
            q = Rotation.from_matrix(turned).as_quat()[[3, 0, 1, 2]].astype(np.float32)
            scales, canonical = splat.canonicalize_frames(log_scales[order], q)
            assert (np.diff(scales) <= 0).all()
            assert canonical[0] >= 0
            np.testing.assert_allclose(splat.covariance(scales, canonical), wanted, atol=1e-5)
            axes = np.abs(splat.quat_to_rotmat(canonical))  # unique up to signs of axes
            seen.add(tuple(np.round(axes, 3).ravel().tolist()))
    assert len(seen) == 1


def test_shape_statistics():
    stats = splat.shape_statistics(np.log(np.array([[1, 4, 2.0], [3, 3, 3]], np.float32)))
    np.testing.assert_allclose(np.stack(stats), [[0.5, 0], [0.25, 0], [0.25, 1]], atol=1e-6)


def test_cloud_statistics_weigh_by_opacity():
    log_scales = np.log(np.array([[1, 1e-3, 1e-3], [1, 1, 1e-3]], np.float32))
    o = np.array([0.9, 0.3], np.float32)
    cloud = random_cloud(2)._replace(log_scales=log_scales, opacity_logits=np.log(o / (1 - o)))
    stats = splat.cloud_statistics(cloud)
    np.testing.assert_allclose(stats.linearity, 0.9 * 0.999 / 1.2, atol=1e-3)
    np.testing.assert_allclose(stats.opacity, (o**2).sum() / o.sum(), rtol=1e-5)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), cloud)
    assert splat.cloud_statistics(batch).planarity.shape == (2,)


def test_a_moved_cloud_looks_the_same_to_a_moved_camera():
    cloud = random_cloud(30, degree=3)
    turn = Rotation.random(random_state=3).as_matrix().astype(np.float32)
    shift, scale = np.array([0.3, -1, 2], np.float32), 1.7
    moved = splat.transform_cloud(cloud, rotation=turn, translation=shift, scale=scale)
    np.testing.assert_allclose(
        splat.covariance(moved.log_scales, moved.quats),
        scale**2 * turn @ splat.covariance(cloud.log_scales, cloud.quats) @ turn.T,
        atol=1e-5,
    )
    view = camera()
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3], pose[:3, 3] = turn, shift
    # x' = s R x + t, so the camera sees s times its former coordinates.
    viewmat = np.array(view.viewmat @ np.linalg.inv(pose))
    viewmat[:3, 3] += (scale - 1) * np.asarray(view.viewmat)[:3, 3]
    there = render(moved, splat.Camera(viewmat, view.K), 24, 20)
    here = render(cloud, view, 24, 20)
    np.testing.assert_allclose(there.rgb, here.rgb, atol=3e-4)
    np.testing.assert_allclose(there.depth, scale * here.depth, atol=2e-3)


def test_turns_compose_and_undo():
    cloud = random_cloud(10, degree=1)
    a, b = Rotation.random(2, random_state=0).as_matrix().astype(np.float32)
    twice = splat.transform_cloud(splat.transform_cloud(cloud, rotation=a), rotation=b)
    once = splat.transform_cloud(cloud, rotation=b @ a)
    for x, y in zip(twice._replace(quats=0), once._replace(quats=0), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    np.testing.assert_allclose(
        splat.quat_to_rotmat(twice.quats), splat.quat_to_rotmat(once.quats), atol=1e-5
    )
    back = splat.transform_cloud(splat.transform_cloud(cloud, scale=2.0), scale=0.5)
    np.testing.assert_allclose(back.log_scales, cloud.log_scales, atol=1e-6)


def test_refuses_a_reflection():
    with pytest.raises(ValueError, match=r"scale must be positive, got -1"):
        splat.transform_cloud(random_cloud(4), scale=-1.0)
