"""Types that several files of the room share."""

from typing import NamedTuple

import jax
import numpy as np


class GaussianCloud(NamedTuple):
    """A Gaussian-splat point cloud, with raw (pre-activation) parameters.

    Attributes:
      means: `[..., N, 3]` centres.
      log_scales: `[..., N, 3]` logarithms of the standard deviations along the three axes.
      quats: `[..., N, 4]` orientations (w, x, y, z) of any norm, normalised on use.
      opacity_logits: `[..., N]`; the opacity is their sigmoid.
      sh: `[..., N, K, 3]` spherical-harmonic coefficients of the colour, `K = (degree + 1)^2`.
    """

    means: jax.Array | np.ndarray
    log_scales: jax.Array | np.ndarray
    quats: jax.Array | np.ndarray
    opacity_logits: jax.Array | np.ndarray
    sh: jax.Array | np.ndarray


class Camera(NamedTuple):
    """A pinhole camera in OpenCV's convention: x right, y down, z forward.

    Attributes:
      viewmat: `[..., 4, 4]` world to camera.
      K: `[..., 3, 3]` intrinsics in pixels; pixel (row i, column j) has its centre at
        `(j + 0.5, i + 0.5)`.
    """

    viewmat: jax.Array | np.ndarray
    K: jax.Array | np.ndarray


class CloudDataset(NamedTuple):
    """Labelled objects, all with the same number of Gaussians.

    Attributes:
      cloud: a `GaussianCloud` with leaves `[M, N, ...]`.
      labels: `[M]` int32.
      class_names: the name of each label.
    """

    cloud: GaussianCloud
    labels: jax.Array | np.ndarray
    class_names: tuple[str, ...]
