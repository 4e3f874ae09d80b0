"""Cameras that look at an object."""

import math

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.splat.precision import in_full_precision
from jaxlab.splat.rotations import normalize
from jaxlab.splat.types import Camera

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@in_full_precision
def look_at(
    eye: ArrayLike, target: ArrayLike = (0.0, 0.0, 0.0), up: ArrayLike = (0.0, 0.0, 1.0)
) -> jax.Array:
    """World-to-camera matrix `[4, 4]` of a camera at `eye` that looks at `target`.

    OpenCV's convention: x right, y down, z forward. Where the view runs along `up`, another
    direction takes its place.

    Args:
      eye, target, up: `[3]`.
    """
    eye, target, up = (jnp.asarray(x, jnp.float32) for x in (eye, target, up))
    forward = normalize(target - eye)
    aside = jnp.cross(forward, up)
    # Any axis that the view does not run along will do.
    spare = jnp.where(jnp.abs(forward[0]) < 0.9, jnp.array([1.0, 0, 0]), jnp.array([0, 1.0, 0]))
    parallel = jnp.sum(aside**2) < 1e-8 * jnp.sum(up**2)
    right = normalize(jnp.where(parallel, jnp.cross(forward, spare), aside))
    turn = jnp.stack([right, jnp.cross(forward, right), forward])
    return jnp.eye(4).at[:3, :3].set(turn).at[:3, 3].set(-turn @ eye)


def orbit_cameras(
    num_views: int,
    radius: float,
    width: int,
    height: int,
    *,
    fov_degrees: float = 50.0,
    min_elevation: float = -20.0,
    max_elevation: float = 60.0,
) -> Camera:
    """Cameras around the origin: golden-angle azimuths, uniform in the sine of the elevation.

    Args:
      num_views: how many, `V`.
      radius: distance from the origin.
      width, height: of the image in pixels; the principal point is in the middle.
      fov_degrees: horizontal field of view.
      min_elevation, max_elevation: in degrees above the xy plane.

    Returns:
      A `Camera` with leaves `[V, 4, 4]` and `[V, 3, 3]`.

    Raises:
      ValueError: no views, no pixels, or a field of view outside (0, 180).
    """
    if num_views < 1 or width < 1 or height < 1:
        raise ValueError(
            f"num_views, width and height must be >= 1, got {num_views}, {width}, {height}"
        )
    if is_concrete(fov_degrees) and not 0 < fov_degrees < 180:
        raise ValueError(f"fov_degrees must lie in (0, 180), got {fov_degrees}")
    index = jnp.arange(num_views)
    low, high = (jnp.sin(jnp.radians(x)) for x in (min_elevation, max_elevation))
    sine = low + (high - low) * (index + 0.5) / num_views
    cosine, azimuth = jnp.sqrt(1 - sine**2), index * _GOLDEN_ANGLE
    eyes = radius * jnp.stack([cosine * jnp.cos(azimuth), cosine * jnp.sin(azimuth), sine], -1)
    focal = width / (2 * jnp.tan(jnp.radians(fov_degrees) / 2))
    intrinsics = jnp.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(jax.vmap(look_at)(eyes), jnp.tile(intrinsics, (num_views, 1, 1)))
