"""Real spherical harmonics up to degree 3, with the signs of 3D Gaussian splatting."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.arrays import as_float
from jaxlab.splat.precision import in_full_precision
from jaxlab.splat.rotations import normalize

C0 = 0.28209479177387814
_C1 = 0.4886025119029199
MAX_DEGREE = 3


def sh_degree(num_coefficients: int) -> int:
    """The degree of `num_coefficients = (degree + 1)^2` coefficients.

    Raises:
      ValueError: a number that is not 1, 4, 9 or 16.
    """
    degree = math.isqrt(num_coefficients) - 1
    if (degree + 1) ** 2 != num_coefficients or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(
            f"sh holds {num_coefficients} coefficients a channel; there must be 1, 4, 9 or 16"
        )
    return degree


def sh_basis(degree: int, dirs: jax.Array) -> jax.Array:
    """The basis functions `[..., (degree + 1)^2]` at unit directions `dirs` `[..., 3]`."""
    x, y, z = dirs[..., 0], dirs[..., 1], dirs[..., 2]
    basis = [C0 + 0 * x]
    if degree > 0:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree > 2:
        basis += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return (jnp if isinstance(dirs, jax.Array) else np).stack(basis, -1)


def eval_sh(degree: int, sh: jax.Array, dirs: jax.Array) -> jax.Array:
    """`sum_k b_k(d) sh_k`, the colour without the offset of 0.5.

    Args:
      degree: 0 to 3; coefficients of higher bands are left out.
      sh: `[..., K, 3]` with `K >= (degree + 1)^2`.
      dirs: `[..., 3]` directions from the camera to the Gaussian, of any length.

    Returns:
      `[..., 3]`.

    Raises:
      ValueError: a degree outside 0 to 3, or too few coefficients.
    """
    count = (degree + 1) ** 2
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree must be 0 to {MAX_DEGREE}, got {degree}")
    if sh.shape[-2] < count:
        raise ValueError(
            f"degree {degree} needs {count} coefficients a channel, sh holds {sh.shape[-2]}"
        )
    basis = sh_basis(degree, normalize(jnp.asarray(dirs)))
    return jnp.sum(basis[..., None] * sh[..., :count, :], -2)


def _band(degree: int, dirs):
    return sh_basis(degree, dirs)[..., degree**2 :]


def _unit_rows() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(64, 3))
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


_DIRS = _unit_rows()
_PINV = [np.linalg.pinv(_band(degree, _DIRS)) for degree in range(MAX_DEGREE + 1)]


@in_full_precision
def rotate_sh(sh: jax.Array, rotation: jax.Array) -> jax.Array:
    """Coefficients of the rotated colour: `sum sh'_k b_k(d) = sum sh_k b_k(R^T d)` for all `d`.

    Each band `l` is turned by its own matrix `D_l`, found by least squares over fixed directions,
    where it is exact.

    Args:
      sh: `[..., K, 3]`, `K` of 1, 4, 9 or 16.
      rotation: `[..., 3, 3]`, its leading axes broadcast with those of `sh`.
    """
    sh, rotation = jnp.asarray(sh), as_float(rotation)
    bands = [sh[..., :1, :]]  # the constant does not turn
    for degree in range(1, sh_degree(sh.shape[-2]) + 1):
        turned = jnp.einsum("nj,...ji->...ni", jnp.asarray(_DIRS, rotation.dtype), rotation)
        matrix = jnp.asarray(_PINV[degree], rotation.dtype) @ _band(degree, turned)
        bands.append(matrix @ sh[..., degree**2 : (degree + 1) ** 2, :])
    return jnp.concatenate(bands, -2)
