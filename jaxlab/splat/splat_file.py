"""`.splat` files: 32 bytes a Gaussian, without a header (antimatter15's viewer)."""

import os
from pathlib import Path

import numpy as np

from jaxlab.runs import atomic
from jaxlab.splat.harmonics import C0
from jaxlab.splat.opacities import logit
from jaxlab.splat.ply import check_cloud
from jaxlab.splat.types import GaussianCloud

_RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
_MIN_SCALE = np.finfo(np.float32).tiny


def read_splat(path: str | os.PathLike) -> GaussianCloud:
    """Reads a `.splat` file; colours have degree 0 (host).

    Raises:
      FileNotFoundError: no such file.
      ValueError: a size that is no positive multiple of 32 bytes.
    """
    data = Path(path).read_bytes()
    if not data or len(data) % _RECORD.itemsize:
        raise ValueError(
            f"{path} has {len(data)} bytes; expected a positive multiple of {_RECORD.itemsize}"
        )
    rows = np.frombuffer(data, _RECORD)
    quats = (rows["quat"].astype(np.float64) - 128) / 128
    norms = np.linalg.norm(quats, axis=1, keepdims=True)
    quats = np.where(norms > 0, quats / np.maximum(norms, 1e-12), [1.0, 0, 0, 0])
    rgba = rows["rgba"] / 255
    cloud = GaussianCloud(
        rows["mean"],
        np.log(np.maximum(rows["scale"], _MIN_SCALE)),
        quats,
        logit(rgba[:, 3]),
        ((rgba[:, :3] - 0.5) / C0)[:, None],
    )
    return GaussianCloud(*(np.array(x, np.float32) for x in cloud))


def write_splat(path: str | os.PathLike, cloud: GaussianCloud) -> None:
    """Writes a `.splat` file: the largest and most opaque Gaussians first (host).

    Colours, opacities and quaternions are rounded to 8 bits; bands beyond the first are left out.

    Raises:
      ValueError: no Gaussians, or leaves whose shapes do not belong together.
    """
    cloud = check_cloud(cloud)
    if not len(cloud.means):
        raise ValueError("a .splat file needs at least one Gaussian")
    opacity = 1 / (1 + np.exp(-cloud.opacity_logits.astype(np.float64)))
    order = np.argsort(-(cloud.log_scales.sum(1) + np.log(opacity)), kind="stable")
    norms = np.linalg.norm(cloud.quats, axis=1, keepdims=True)
    quats = np.where(norms > 0, cloud.quats / np.maximum(norms, 1e-12), [1.0, 0, 0, 0])
    rows = np.empty(len(order), _RECORD)
    rows["mean"] = cloud.means[order]
    rows["scale"] = np.exp(cloud.log_scales[order])
    rows["rgba"][:, :3] = _bytes(255 * np.clip(0.5 + C0 * cloud.sh[order, 0], 0, 1))
    rows["rgba"][:, 3] = _bytes(255 * opacity[order])
    rows["quat"] = _bytes(quats[order] * 128 + 128)
    atomic.write_bytes(path, rows.tobytes())


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
