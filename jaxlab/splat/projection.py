"""Perspective projection of Gaussians to the image plane (EWA splatting)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.splat.precision import in_full_precision

_MIN_DET = 1e-10
_MARGIN = 0.3  # of the half view, beyond which the Jacobian is frozen


class Projection(NamedTuple):
    """Gaussians on the image plane; every entry is finite, also where `valid` is False.

    Attributes:
      means2d: `[N, 2]` pixels (x, y).
      cov2d: `[N, 2, 2]` square pixels, the low-pass filter included.
      conics: `[N, 3]` entries (xx, xy, yy) of the inverse of `cov2d`.
      depths: `[N]` true z in the camera's frame.
      valid: `[N]` bool, in front of the near plane.
    """

    means2d: jax.Array
    cov2d: jax.Array
    conics: jax.Array
    depths: jax.Array
    valid: jax.Array


@in_full_precision
def project_gaussians(
    means: ArrayLike,
    covs: ArrayLike,
    viewmat: ArrayLike,
    K: ArrayLike,
    width: int,
    height: int,
    *,
    eps2d: float = 0.3,
    near: float = 0.01,
) -> Projection:
    """Projects Gaussians with the Jacobian of the perspective map at their centres.

    Args:
      means: `[N, 3]`.
      covs: `[N, 3, 3]`, positive semi-definite.
      viewmat: `[4, 4]` world to camera.
      K: `[3, 3]` intrinsics in pixels.
      width, height: of the image in pixels; they limit the Jacobian's centre to 1.3 half views.
      eps2d: variance in square pixels that is added to both axes.
      near: smallest depth.

    Source: Zwicker et al., "EWA Splatting" (2002), as used by Kerbl et al. (2023).
    """
    means, covs, viewmat, K = map(jnp.asarray, (means, covs, viewmat, K))
    turn = viewmat[:3, :3]
    centres = means @ turn.T + viewmat[:3, 3]
    x, y, depths = centres[:, 0], centres[:, 1], centres[:, 2]
    valid = depths > near
    # Chosen before any division, so that the branch not taken has finite gradients.
    z = jnp.where(valid, depths, 1.0)
    x, y = jnp.where(valid, x, 0.0), jnp.where(valid, y, 0.0)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    u = z * _clip_to_view(x / z, fx, cx, width)
    v = z * _clip_to_view(y / z, fy, cy, height)
    zero = jnp.zeros_like(z)
    jacobian = jnp.stack(
        [
            jnp.stack([fx / z, zero, -fx * u / z**2], -1),
            jnp.stack([zero, fy / z, -fy * v / z**2], -1),
        ],
        -2,
    )
    to_image = jacobian @ turn
    seen = to_image @ jnp.where(valid[:, None, None], covs, 0.0) @ jnp.swapaxes(to_image, -1, -2)
    a, b, c = seen[:, 0, 0], seen[:, 0, 1], seen[:, 1, 1]
    # det(A + eps I) term by term: A is semi-definite, and rounding must not make it indefinite.
    det = jnp.maximum(a * c - b * b, 0) + eps2d * (a + c) + eps2d**2
    det = jnp.maximum(det, _MIN_DET)
    conics = jnp.stack([(c + eps2d) / det, -b / det, (a + eps2d) / det], -1)
    means2d = jnp.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return Projection(means2d, seen + eps2d * jnp.eye(2, dtype=seen.dtype), conics, depths, valid)


def _clip_to_view(slope: jax.Array, focal: jax.Array, centre: jax.Array, size: int) -> jax.Array:
    margin = _MARGIN * size / (2 * focal)
    return jnp.clip(slope, -(centre / focal + margin), (size - centre) / focal + margin)
