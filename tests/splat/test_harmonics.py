import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxlab import splat
from tests.splat.reference_render import basis


@pytest.mark.parametrize("degree", range(4))
def test_colors_are_the_references(degree):
    rng = np.random.default_rng(degree)
    sh = rng.normal(size=(7, 16, 3)).astype(np.float32)
    dirs = rng.normal(size=(7, 3))
    unit = dirs / np.linalg.norm(dirs, axis=1, keepdims=True)
    count = (degree + 1) ** 2
    wanted = np.stack([basis(d)[:count] @ c[:count] for d, c in zip(unit, sh, strict=True)])
    np.testing.assert_allclose(splat.eval_sh(degree, sh, dirs), wanted, atol=3e-6)
    np.testing.assert_allclose(splat.eval_sh(degree, sh, 9 * dirs), wanted, atol=3e-6)


def test_basis_is_orthonormal():
    rng = np.random.default_rng(0)
    dirs = rng.normal(size=(200_000, 3))
    dirs /= np.linalg.norm(dirs, axis=1, keepdims=True)
    values = splat.harmonics.sh_basis(3, dirs)
    np.testing.assert_allclose(4 * np.pi * values.T @ values / len(dirs), np.eye(16), atol=0.03)


@pytest.mark.parametrize("degree", range(4))
def test_rotated_coefficients_give_the_rotated_color(degree):
    rng = np.random.default_rng(degree)
    turn = Rotation.random(random_state=degree).as_matrix().astype(np.float32)
    sh = rng.normal(size=(5, (degree + 1) ** 2, 3)).astype(np.float32)
    dirs = rng.normal(size=(40, 1, 3)).astype(np.float32)
    rotated = splat.eval_sh(degree, splat.rotate_sh(sh, turn), dirs)
    np.testing.assert_allclose(rotated, splat.eval_sh(degree, sh, dirs @ turn), atol=2e-5)


def test_rotations_broadcast_and_compose():
    rng = np.random.default_rng(0)
    turns = Rotation.random(2, random_state=1).as_matrix().astype(np.float32)
    sh = jnp.asarray(rng.normal(size=(2, 6, 16, 3)), jnp.float32)
    together = jax.jit(splat.rotate_sh)(sh, turns[:, None])
    np.testing.assert_allclose(together[1], splat.rotate_sh(sh[1], turns[1]), atol=1e-5)
    twice = splat.rotate_sh(splat.rotate_sh(sh, turns[0]), turns[1])
    np.testing.assert_allclose(twice, splat.rotate_sh(sh, turns[1] @ turns[0]), atol=2e-5)


def test_a_matrix_of_integers_is_a_rotation():
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    sh = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    wanted = splat.rotate_sh(sh, turn.astype(np.float32))
    np.testing.assert_array_equal(splat.rotate_sh(sh, turn), wanted)


def test_refuses_missing_bands():
    with pytest.raises(ValueError, match="needs 9 coefficients a channel, sh holds 4"):
        splat.eval_sh(2, np.zeros((1, 4, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="degree must be 0 to 3, got 4"):
        splat.eval_sh(4, np.zeros((1, 25, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="sh holds 5 coefficients"):
        splat.rotate_sh(np.zeros((1, 5, 3)), np.eye(3))
