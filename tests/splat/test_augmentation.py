import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from tests.splat.scenes import random_cloud


def rotation_between(before, after):
    """The rotation that best takes one set of points to another (Kabsch)."""
    u, _, vt = np.linalg.svd(np.asarray(before, float).T @ np.asarray(after, float))
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (u @ sign @ vt).T


@pytest.mark.parametrize("rotate", ["z", "so3", "none"])
def test_frames_and_colors_turn_with_the_points(rotate):
    cloud = random_cloud(30, degree=2)
    moved = splat.augment_cloud(
        jax.random.key(3), cloud, rotate=rotate, scale_range=(0.7, 1.4), translate=0.2
    )
    centred = [x.means - x.means.mean(0) for x in (cloud, moved)]
    turn = rotation_between(*centred)
    scale = np.linalg.norm(centred[1]) / np.linalg.norm(centred[0])
    assert 0.7 <= scale <= 1.4
    np.testing.assert_allclose(centred[1], scale * centred[0] @ turn.T, atol=1e-4)
    np.testing.assert_allclose(
        splat.covariance(moved.log_scales, moved.quats),
        scale**2 * turn @ splat.covariance(cloud.log_scales, cloud.quats) @ turn.T,
        rtol=1e-3,
        atol=1e-4,
    )
    dirs = np.random.default_rng(0).normal(size=(20, 1, 3)).astype(np.float32)
    np.testing.assert_allclose(
        splat.eval_sh(2, moved.sh, dirs),
        splat.eval_sh(2, cloud.sh, dirs @ turn.astype(np.float32)),
        atol=1e-3,
    )
    if rotate == "z":
        np.testing.assert_allclose(turn[2], [0, 0, 1], atol=1e-4)
        assert abs(turn[0, 0] - 1) > 1e-3
    elif rotate == "none":
        np.testing.assert_allclose(turn, np.eye(3), atol=1e-4)


def test_jitter_moves_means_alone():
    cloud = random_cloud(2000)
    moved = splat.augment_cloud(jax.random.key(0), cloud, rotate="none", jitter_std=0.1)
    np.testing.assert_allclose((moved.means - cloud.means).std(), 0.1, rtol=0.05)
    for name in ("log_scales", "quats", "opacity_logits", "sh"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(cloud, name))


def test_objects_of_a_batch_move_by_themselves():
    cloud = jax.tree.map(lambda x: jnp.stack([x, x]), random_cloud(8))
    moved = jax.jit(splat.augment_cloud)(jax.random.key(0), cloud)
    assert abs(moved.means[0] - moved.means[1]).max() > 0.01


def test_sizes_of_motions_may_be_traced():
    cloud = random_cloud(8)

    def moved(low, high, shift, jitter):
        motion = {"scale_range": (low, high), "translate": shift, "jitter_std": jitter}
        return splat.augment_cloud(jax.random.key(0), cloud, **motion).means

    sizes = (0.5, 2.0, 0.3, 0.1)
    np.testing.assert_allclose(jax.jit(moved)(*sizes), moved(*sizes), atol=1e-6)


def test_refuses():
    with pytest.raises(ValueError, match="rotate must be one of z, so3, none, got 'x'"):
        splat.augment_cloud(jax.random.key(0), random_cloud(4), rotate="x")
    with pytest.raises(ValueError, match="scale_range must be positive and ascending"):
        splat.augment_cloud(jax.random.key(0), random_cloud(4), scale_range=(1.0, 0.5))
