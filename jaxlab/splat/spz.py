"""`.spz` files (Niantic): quantised Gaussians in streams, compressed."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from jaxlab.splat.opacities import logit
from jaxlab.splat.packed_ply import insert_largest
from jaxlab.splat.types import GaussianCloud

_MAGIC = 0x5053474E
_MAGIC_BYTES = _MAGIC.to_bytes(4, "little")
_HEADER = np.dtype([("magic", "<u4"), ("version", "<u4"), ("count", "<u4"), ("rest", "u1", 4)])
_COLOR_SCALE = 0.15
_MAX_DEGREE = 3


def read_spz(path: str | os.PathLike) -> GaussianCloud:
    """Reads an `.spz` file of version 2 or 3; values are returned as stored (host).

    Stored frames are right, up, back (RUB), where PLY files usually have right, down, forward:
    `transform_cloud(cloud, rotation=numpy.diag([1, -1, -1]))` goes from one to the other.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an `.spz` file, another version, or a truncated one.
    """
    data = Path(path).read_bytes()
    if data[:4] == _MAGIC_BYTES:
        version = int.from_bytes(data[4:8], "little")
        raise ValueError(
            f"{path} is .spz version {version}, whose streams are packed with zstandard and are "
            "not read here; versions 2 and 3 are. Save it as one of them, or as .ply"
        )
    try:
        data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no .spz file, or it is truncated: {error}") from error
    if len(data) < _HEADER.itemsize:
        raise ValueError(
            f"{path} is truncated: a header has {_HEADER.itemsize} bytes, found {len(data)}"
        )
    header = np.frombuffer(data, _HEADER, 1)[0]
    if header["magic"] != _MAGIC:
        raise ValueError(
            f"{path} is no .spz file: expected the magic number {_MAGIC:#x}, found "
            f"{int(header['magic']):#x}"
        )
    version, count = int(header["version"]), int(header["count"])
    degree, fraction_bits = int(header["rest"][0]), int(header["rest"][1])
    if version not in (2, 3):
        raise ValueError(f"{path} is .spz version {version}; versions 2 and 3 are read")
    if degree > _MAX_DEGREE:
        raise ValueError(f"{path} has degree {degree}; at most {_MAX_DEGREE} is read")
    return _read_streams(data[_HEADER.itemsize :], version, count, degree, fraction_bits, path)


def _read_streams(
    data: bytes, version: int, count: int, degree: int, fraction_bits: int, path
) -> GaussianCloud:
    bands = (degree + 1) ** 2
    rotation_bytes = 3 if version == 2 else 4
    widths = (9, 1, 3, 3, rotation_bytes, 3 * (bands - 1))
    expected, found = count * sum(widths), len(data)
    if found < expected:
        raise ValueError(f"{path} is truncated: expected {expected} bytes, found {found}")
    streams, start = [], 0
    for width in widths:
        stream = np.frombuffer(data, np.uint8, count * width, start)
        streams.append(stream.reshape(count, width))
        start += count * width
    positions, alphas, colors, scales, rotations, rest = streams
    dc = (colors / 255 - 0.5) / _COLOR_SCALE
    rest = (rest.astype(np.float64) - 128) / 128
    cloud = GaussianCloud(
        _fixed_point(positions) / 2.0**fraction_bits,
        scales / 16 - 10,
        _small_rotation(rotations) if version == 2 else _packed_rotation(rotations),
        logit(alphas[:, 0] / 255),
        np.concatenate([dc[:, None], rest.reshape(count, bands - 1, 3)], 1),
    )
    return GaussianCloud(*(np.ascontiguousarray(x, np.float32) for x in cloud))


def _fixed_point(stream: np.ndarray) -> np.ndarray:
    """Signed integers of 24 bits, the lowest byte first: `[N, 9]` to `[N, 3]`."""
    low, middle, high = stream.reshape(-1, 3, 3).astype(np.int32).transpose(2, 0, 1)
    return (low | middle << 8 | high << 16) - ((high & 0x80) << 17)


def _small_rotation(stream: np.ndarray) -> np.ndarray:
    """Version 2: x, y, z as bytes, and `w >= 0` from the unit norm."""
    xyz = stream / 127.5 - 1
    w = np.sqrt(np.maximum(1 - np.sum(xyz**2, 1, keepdims=True), 0))
    return np.concatenate([w, xyz], 1)


def _packed_rotation(stream: np.ndarray) -> np.ndarray:
    """Version 3: place of the largest of (x, y, z, w), and ten bits for each of the others."""
    words = np.ascontiguousarray(stream).view("<u4")[:, 0]
    fields = (words[:, None] >> np.array([20, 10, 0], np.uint32)) & np.uint32(1023)
    size = (fields & 511) / 511 * np.sqrt(0.5)
    others = np.where(fields >> 9, -size, size)
    xyzw = insert_largest(others, (words >> np.uint32(30)).astype(np.int64))
    return xyzw[:, [3, 0, 1, 2]]
