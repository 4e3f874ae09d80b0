"""A first cloud from coloured points, and clouds without their unused slots."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.spatial import cKDTree

from jaxlab.splat.harmonics import C0, MAX_DEGREE
from jaxlab.splat.types import GaussianCloud

_NEIGHBORS = 3
_MIN_SQUARE = 1e-7


def init_cloud(
    points: ArrayLike,
    colors: ArrayLike,
    capacity: int,
    *,
    sh_degree: int = 0,
    initial_opacity: float = 0.1,
) -> tuple[GaussianCloud, jax.Array]:
    """One isotropic Gaussian a point, as large as the distance to its neighbours (host).

    Args:
      points: `[M, 3]`.
      colors: `[M, 3]` in 0..1.
      capacity: number of slots; those from `M` on are free.
      sh_degree: bands of the colour; all but the first start at zero.
      initial_opacity: of every Gaussian.

    Returns:
      `(cloud, alive)`: `capacity` Gaussians, the points first, and which of them count.

    Raises:
      ValueError: other shapes, fewer than 4 points or more than `capacity`, points that are not
        finite, or a degree outside 0 to 3.
    """
    points, colors = np.asarray(points, np.float32), np.asarray(colors, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or colors.shape != points.shape:
        raise ValueError(
            f"points and colors must both be [M, 3], got {points.shape} and {colors.shape}"
        )
    count = len(points)
    if not _NEIGHBORS + 1 <= count <= capacity:
        raise ValueError(
            f"{count} points do not fit: at least {_NEIGHBORS + 1} are needed for a distance to "
            f"neighbours, and at most the capacity of {capacity}"
        )
    if not (np.isfinite(points).all() and np.isfinite(colors).all()):
        raise ValueError("points and colors must be finite; remove the rows that are not")
    if not 0 <= sh_degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree must be 0 to {MAX_DEGREE}, got {sh_degree}")
    if not 0 < initial_opacity < 1:
        raise ValueError(f"initial_opacity must lie in (0, 1), got {initial_opacity}")
    distances = cKDTree(points).query(points, k=_NEIGHBORS + 1)[0][:, 1:]
    squares = np.maximum(np.mean(distances**2, 1), _MIN_SQUARE)
    log_scales = np.repeat(0.5 * np.log(squares)[:, None], 3, axis=1)
    sh = np.zeros((capacity, (sh_degree + 1) ** 2, 3), np.float32)
    sh[:count, 0] = (colors - 0.5) / C0
    free = capacity - count
    logit = np.log(initial_opacity / (1 - initial_opacity))
    cloud = GaussianCloud(
        np.pad(points, ((0, free), (0, 0))),
        np.pad(log_scales, ((0, free), (0, 0)), constant_values=np.log(_MIN_SQUARE) / 2),
        np.tile([1.0, 0, 0, 0], (capacity, 1)),
        np.full(capacity, logit),
        sh,
    )
    cloud = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), cloud)
    return cloud, jnp.arange(capacity) < count


def compact(cloud: GaussianCloud, alive: ArrayLike) -> GaussianCloud:
    """The Gaussians that are alive, as NumPy arrays (host)."""
    alive = np.asarray(alive)
    return GaussianCloud(*(np.asarray(x)[alive] for x in cloud))
