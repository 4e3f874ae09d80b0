"""Any splat file by its extension, and folders of them as a labelled data set."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.checks import check_at_least, check_choice
from jaxlab.splat.features import METHODS, normalize_cloud
from jaxlab.splat.neighbors import farthest_point_sample
from jaxlab.splat.ply import read_ply
from jaxlab.splat.splat_file import read_splat
from jaxlab.splat.spz import read_spz
from jaxlab.splat.types import CloudDataset, GaussianCloud

_READERS = {".ply": read_ply, ".splat": read_splat, ".spz": read_spz}


def load_cloud(path: str | os.PathLike) -> GaussianCloud:
    """Reads a `.ply`, `.splat` or `.spz` file (host).

    Raises:
      FileNotFoundError: no such file.
      ValueError: another extension, or a file that its reader refuses.
    """
    suffix = Path(path).suffix.lower()
    check_choice(f"{path}: extension", suffix, _READERS)
    return _READERS[suffix](path)


def load_cloud_folder(
    root: str | os.PathLike,
    *,
    num_points: int,
    method: str = "random",
    min_opacity: float = 0.005,
    seed: int = 0,
) -> CloudDataset:
    """Reads `root/<class>/<object>.{ply,splat,spz}` as a data set (host).

    Each cloud loses its faint Gaussians, is centred and scaled to the unit ball, and sampled.
    Classes are the sorted folder names, objects come in sorted order.

    Args:
      root: folder of the class folders.
      num_points: Gaussians kept of each object; drawn with replacement only where there are fewer.
      method: `"random"` or `"fps"` (farthest points first).
      min_opacity: Gaussians below it are left out.
      seed: of the sampling.

    Returns:
      A `CloudDataset` of NumPy arrays; `sh` is cut to degree 0.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: no class folder, one without a splat file, or an object without a Gaussian above
        `min_opacity`.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    check_choice("method", method, METHODS)
    check_at_least("num_points", num_points, 1)
    folders = sorted(
        entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not folders:
        raise ValueError(f"{root} has no class folder; expected {root}/<class>/<object>.ply")
    clouds, labels = [], []
    for label, folder in enumerate(folders):
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _READERS and not path.name.startswith(".")
        )
        if not paths:
            raise ValueError(f"class folder {folder} has no file with {', '.join(_READERS)}")
        for path in paths:
            rng = np.random.default_rng((seed, len(clouds)))
            clouds.append(_prepare(rng, path, num_points, method, min_opacity))
            labels.append(label)
    cloud = GaussianCloud(*(np.stack(leaves) for leaves in zip(*clouds, strict=True)))
    return CloudDataset(cloud, np.array(labels, np.int32), tuple(f.name for f in folders))


def _prepare(
    rng: np.random.Generator, path: Path, num_points: int, method: str, min_opacity: float
) -> GaussianCloud:
    cloud = load_cloud(path)
    opacity = 1 / (1 + np.exp(-cloud.opacity_logits.astype(np.float64)))
    finite = np.all([np.isfinite(leaf.reshape(len(leaf), -1)).all(1) for leaf in cloud], axis=0)
    kept = np.flatnonzero(finite & (opacity >= min_opacity))
    if not len(kept):
        raise ValueError(
            f"{path} has no Gaussian of finite numbers with an opacity of {min_opacity} or more"
        )
    cloud = GaussianCloud(*(leaf[kept] for leaf in cloud))
    cloud = normalize_cloud(cloud._replace(sh=cloud.sh[:, :1]))
    count = len(kept)
    if count < num_points:
        rows = np.concatenate([np.arange(count), rng.integers(0, count, num_points - count)])
    elif method == "fps":
        rows = _farthest(cloud.means, num_points)
    else:
        rows = rng.choice(count, num_points, replace=False)
    return GaussianCloud(*(leaf[rows] for leaf in cloud))


def _farthest(means: jax.Array | np.ndarray, num_points: int) -> np.ndarray:
    """Farthest points, padded to a power of two so that clouds of all sizes share few programs."""
    count = len(means)
    room = 1 << (count - 1).bit_length()
    padded = np.pad(means, ((0, room - count), (0, 0)))
    return np.asarray(_farthest_of_first(padded, count, num_points))


@functools.partial(jax.jit, static_argnames="num_points")
def _farthest_of_first(points: jax.Array, count: jax.Array, num_points: int) -> jax.Array:
    first = jnp.arange(points.shape[0]) < count
    start = jnp.argmax(jnp.where(first, jnp.sum(points**2, -1), -1))  # the centroid is the origin
    return farthest_point_sample(points, num_points, start=start, eligible=first)
