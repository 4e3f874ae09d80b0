"""Shapes of Gaussians, and rigid motions of whole clouds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.splat.harmonics import rotate_sh
from jaxlab.splat.precision import in_full_precision
from jaxlab.splat.rotations import quat_multiply, quat_to_rotmat, rotmat_to_quat
from jaxlab.splat.types import GaussianCloud


class ShapeStats(NamedTuple):
    """How line-like, plane-like and ball-like a Gaussian is; the three sum to 1.

    Attributes:
      linearity: `[...]`, `(s1 - s2) / s1` of the standard deviations `s1 >= s2 >= s3`.
      planarity: `[...]`, `(s2 - s3) / s1`.
      sphericity: `[...]`, `s3 / s1`.
    """

    linearity: jax.Array
    planarity: jax.Array
    sphericity: jax.Array


class CloudStats(NamedTuple):
    """Opacity-weighted means of the shape statistics and of the opacity itself, `[...]` each."""

    linearity: jax.Array
    planarity: jax.Array
    sphericity: jax.Array
    opacity: jax.Array


@in_full_precision
def covariance(log_scales: ArrayLike, quats: ArrayLike) -> jax.Array:
    """`Sigma = R diag(s^2) R^T` `[..., 3, 3]`, formed as a square so that it stays semi-definite.

    Args:
      log_scales: `[..., 3]`.
      quats: `[..., 4]`, any norm.
    """
    axes = quat_to_rotmat(quats) * jnp.exp(log_scales)[..., None, :]
    return axes @ jnp.swapaxes(axes, -1, -2)


def canonicalize_frames(log_scales: ArrayLike, quats: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """One of the 48 equal (scale, quaternion) pairs of each Gaussian: scales descending, `w >= 0`.

    Unique up to the four half turns about the axes. The covariance is unchanged.

    Args:
      log_scales: `[..., 3]`.
      quats: `[..., 4]`, any norm.

    Returns:
      `(log_scales, quats)` with the same shapes and unit quaternions.
    """
    order = jnp.argsort(-jnp.asarray(log_scales), -1)
    axes = jnp.take_along_axis(quat_to_rotmat(quats), order[..., None, :], -1)
    first, second = axes[..., 0], axes[..., 1]
    frame = jnp.stack([first, second, jnp.cross(first, second)], -1)
    return jnp.take_along_axis(jnp.asarray(log_scales), order, -1), rotmat_to_quat(frame)


def shape_statistics(log_scales: ArrayLike) -> ShapeStats:
    """Linearity, planarity and sphericity `[...]` of Gaussians with `log_scales` `[..., 3]`."""
    s3, s2, s1 = jnp.moveaxis(jnp.sort(jnp.asarray(log_scales), -1), -1, 0)
    second, third = jnp.exp(s2 - s1), jnp.exp(s3 - s1)
    return ShapeStats(1 - second, second - third, third)


def cloud_statistics(cloud: GaussianCloud) -> CloudStats:
    """Statistics of a whole cloud, each Gaussian weighted by its opacity.

    The opacity statistic is `sum o^2 / sum o`: clear Gaussians count little.
    """
    opacity = jax.nn.sigmoid(jnp.asarray(cloud.opacity_logits))
    weights = opacity / jnp.maximum(opacity.sum(-1, keepdims=True), 1e-12)
    shapes = shape_statistics(cloud.log_scales)
    return CloudStats(*(jnp.sum(weights * x, -1) for x in (*shapes, opacity)))


@in_full_precision
def transform_cloud(
    cloud: GaussianCloud,
    *,
    rotation: jax.Array | None = None,
    translation: jax.Array | None = None,
    scale: jax.Array | float | None = None,
) -> GaussianCloud:
    """The cloud moved by `x' = scale R x + translation`: frames, sizes and colours move with it.

    Args:
      cloud: leaves `[..., N, ...]`.
      rotation: `[..., 3, 3]`, a proper rotation.
      translation: `[..., 3]`.
      scale: `[...]`, positive.

    Raises:
      ValueError: a scale that is zero or negative (where it is a Python number).
    """
    if isinstance(scale, int | float) and scale <= 0:
        raise ValueError(f"scale must be positive, got {scale}; a reflection is no rotation")
    means, log_scales, quats, logits, sh = map(jnp.asarray, cloud)
    if rotation is not None:
        rotation = jnp.asarray(rotation, means.dtype)
        means = jnp.einsum("...ij,...nj->...ni", rotation, means)
        quats = quat_multiply(rotmat_to_quat(rotation)[..., None, :], quats)
        sh = rotate_sh(sh, rotation[..., None, :, :])
    if scale is not None:
        scale = jnp.asarray(scale, means.dtype)[..., None, None]
        means, log_scales = scale * means, log_scales + jnp.log(scale)
    if translation is not None:
        means = means + jnp.asarray(translation, means.dtype)[..., None, :]
    return GaussianCloud(means, log_scales, quats, logits, sh)
