"""PLY files in PlayCanvas's compressed layout: 16 bytes a Gaussian, ranges for 256 at a time."""

import os

import numpy as np

from jaxlab.splat.harmonics import C0
from jaxlab.splat.opacities import logit
from jaxlab.splat.types import GaussianCloud

_CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_SH_RANGE = 8.0


def is_packed(tables: dict[str, np.ndarray]) -> bool:
    """Whether the elements of a PLY file are those of the compressed layout."""
    vertex = tables["vertex"]
    return "chunk" in tables and set(_PACKED) <= set(vertex.dtype.names or ())


def unpack(tables: dict[str, np.ndarray], path: str | os.PathLike) -> GaussianCloud:
    """The cloud that the elements `chunk`, `vertex` and perhaps `sh` describe.

    Raises:
      ValueError: too few chunks, chunks without ranges, or a number of colour coefficients that no
        degree has.
    """
    chunk, vertex, bands = tables["chunk"], tables["vertex"], tables.get("sh")
    count = len(vertex)
    expected = -(-count // _CHUNK)
    if len(chunk) < expected:
        raise ValueError(f"{path}: {count} vertices need {expected} chunks, found {len(chunk)}")
    ranges = np.arange(count) // _CHUNK
    names = chunk.dtype.names or ()

    def lerp(units: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        missing = [f"{end}_{axis}" for end in ("min", "max") for axis in axes]
        missing = [name for name in missing if name not in names]
        if missing:
            raise ValueError(f"{path}: chunks lack {', '.join(missing)}")
        low, high = (
            np.stack([chunk[f"{end}_{axis}"] for axis in axes], -1)[ranges]
            for end in ("min", "max")
        )
        return low + (high - low) * units

    color = _fields(vertex["packed_color"], (8, 8, 8, 8))
    rgb = lerp(color[:, :3], ("r", "g", "b")) if "min_r" in names else color[:, :3]
    fine = (11, 10, 11)
    cloud = GaussianCloud(
        lerp(_fields(vertex["packed_position"], fine), ("x", "y", "z")),
        lerp(_fields(vertex["packed_scale"], fine), ("scale_x", "scale_y", "scale_z")),
        _rotation(vertex["packed_rotation"]),
        logit(color[:, 3]),
        np.concatenate([((rgb - 0.5) / C0)[:, None], _higher_bands(bands, count, path)], 1),
    )
    return GaussianCloud(*(np.ascontiguousarray(x, np.float32) for x in cloud))


def _fields(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """The bit fields of `words`, the highest first, each scaled to 0..1: `[N, fields]`."""
    words = words.astype(np.uint32)
    units, shift = [], 32
    for width in bits:
        shift -= width
        top = (1 << width) - 1
        units.append(((words >> np.uint32(shift)) & np.uint32(top)) / top)
    return np.stack(units, -1)


def _rotation(words: np.ndarray) -> np.ndarray:
    """Quaternions (w, x, y, z): the largest entry by its index, the others as fields."""
    words = words.astype(np.uint32)
    largest = (words >> np.uint32(30)).astype(np.int64)
    shifts = np.array([20, 10, 0], np.uint32)
    others = (((words[:, None] >> shifts) & np.uint32(1023)) / 1023 - 0.5) * np.sqrt(2)
    return insert_largest(others, largest)


def insert_largest(others: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Unit vectors `[N, 4]` from three entries `[N, 3]` and the place `[N]` of the fourth, >= 0."""
    fourth = np.sqrt(np.maximum(1 - np.sum(others**2, 1), 0))
    places = np.arange(4)
    source = places - (places > largest[:, None])  # entries behind the gap move up by one
    spread = np.take_along_axis(others, np.minimum(source, 2), 1)
    return np.where(places == largest[:, None], fourth[:, None], spread)


def _higher_bands(bands: np.ndarray | None, count: int, path: str | os.PathLike) -> np.ndarray:
    if bands is None:
        return np.zeros((count, 0, 3))
    names = [name for name in bands.dtype.names or () if name.startswith("f_rest_")]
    if len(names) not in (9, 24, 45) or len(bands) != count:
        raise ValueError(
            f"{path}: the element sh has {len(bands)} rows of {len(names)} coefficients; there "
            f"must be {count} rows of 9, 24 or 45"
        )
    codes = np.stack([bands[f"f_rest_{i}"] for i in range(len(names))], -1).astype(np.float64)
    units = np.where(codes == 0, 0, np.where(codes == 255, 1, (codes + 0.5) / 256))
    values = (units - 0.5) * _SH_RANGE
    return values.reshape(count, 3, -1).transpose(0, 2, 1)
