import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxlab import splat
from jaxlab.splat.rotations import random_rotation, rotation_about_z

QUATS = hnp.arrays(np.float32, (5, 4), elements=st.floats(-2, 2, width=32)).filter(
    lambda q: (np.linalg.norm(q, axis=1) > 0.1).all()
)


def scipy_matrix(quats):
    return Rotation.from_quat(np.asarray(quats, np.float64)[..., [1, 2, 3, 0]]).as_matrix()


@hypothesis.given(QUATS)
def test_matrices_are_scipys_and_come_back(quats):
    matrices = splat.quat_to_rotmat(quats)
    np.testing.assert_allclose(matrices, scipy_matrix(quats), atol=2e-6)
    back = splat.rotmat_to_quat(matrices)
    assert (back[:, 0] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(splat.quat_to_rotmat(back), matrices, atol=5e-6)


def test_half_turns_come_back():
    for axis in np.concatenate([np.eye(3), np.ones((1, 3)) / np.sqrt(3)]):
        turn = 2 * np.outer(axis, axis) - np.eye(3)
        back = splat.quat_to_rotmat(splat.rotmat_to_quat(turn.astype(np.float32)))
        np.testing.assert_allclose(back, turn, atol=2e-6)


@hypothesis.given(QUATS, QUATS)
def test_products(a, b):
    np.testing.assert_allclose(
        splat.quat_to_rotmat(splat.quat_multiply(a, b)),
        scipy_matrix(a) @ scipy_matrix(b),
        atol=5e-6,
    )


def test_zero_quaternion_has_finite_value_and_gradient():
    value, grad = jax.value_and_grad(lambda q: (splat.quat_to_rotmat(q) ** 2).sum())(jnp.zeros(4))
    assert value == 3
    assert jnp.isfinite(grad).all()


def test_rotation_helpers_are_rotations():
    turn = rotation_about_z(jnp.array([0.3, 2.0]))
    np.testing.assert_allclose(
        turn, Rotation.from_rotvec([[0, 0, 0.3], [0, 0, 2.0]]).as_matrix(), atol=1e-6
    )
    turns = jax.vmap(random_rotation)(jax.random.split(jax.random.key(0), 200))
    np.testing.assert_allclose(turns @ turns.mT, np.tile(np.eye(3), (200, 1, 1)), atol=1e-5)
    assert abs(turns.mean(0)).max() < 0.15  # no preferred direction
