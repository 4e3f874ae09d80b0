"""Rotations as quaternions (w, x, y, z) and as matrices."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_TINY = 1e-24


def normalize(vectors: jax.Array) -> jax.Array:
    """`vectors` `[..., D]` at unit length; zero stays zero, with finite gradients."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, -1, keepdims=True), _TINY))


def quat_to_rotmat(quats: ArrayLike) -> jax.Array:
    """Rotation matrices `[..., 3, 3]` of quaternions `[..., 4]` of any norm.

    The columns are the images of the axes. A zero quaternion gives the identity.
    """
    w, x, y, z = jnp.moveaxis(normalize(jnp.asarray(quats)), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def rotmat_to_quat(rotmats: jax.Array) -> jax.Array:
    """Unit quaternions `[..., 4]` with `w >= 0` of rotation matrices `[..., 3, 3]`.

    Each of the four columns of `4 q q^T` is the quaternion up to a factor; the one with the largest
    diagonal entry is well conditioned everywhere, also at half turns.
    """
    m = jnp.asarray(rotmats)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    ww, xx = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22
    yy, zz = 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    columns = ((ww, wx, wy, wz), (wx, xx, xy, xz), (wy, xy, yy, yz), (wz, xz, yz, zz))
    outer = jnp.stack([jnp.stack(column, -1) for column in columns], -2)
    best = jnp.argmax(jnp.stack([ww, xx, yy, zz], -1), -1)
    chosen = jnp.take_along_axis(outer, best[..., None, None], -2)[..., 0, :]
    return upper_half(normalize(chosen))


def upper_half(quats: jax.Array) -> jax.Array:
    """The one of `q` and `-q` with `w >= 0`."""
    return jnp.where(quats[..., :1] < 0, -quats, quats)


def quat_multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product `[..., 4]` with `R(a b) = R(a) R(b)`; norms multiply."""
    aw, ax, ay, az = jnp.moveaxis(jnp.asarray(a), -1, 0)
    bw, bx, by, bz = jnp.moveaxis(jnp.asarray(b), -1, 0)
    return jnp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def rotation_about_z(angle: jax.Array) -> jax.Array:
    """Rotation matrices `[..., 3, 3]` by `angle` `[...]`, in radians, about the z axis."""
    c, s, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    rows = ((c, -s, zero), (s, c, zero), (zero, zero, one))
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def random_rotation(key: jax.Array) -> jax.Array:
    """A uniformly distributed rotation matrix `[3, 3]`."""
    return quat_to_rotmat(jax.random.normal(key, (4,)))
