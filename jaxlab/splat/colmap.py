"""COLMAP's sparse models: cameras, poses and points, binary or text."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlab.splat.captures import stack_cameras
from jaxlab.splat.types import Camera

_MODELS = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE",
    "FULL_OPENCV", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE",
)  # fmt: skip
_PINHOLES = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}


class ColmapModel(NamedTuple):
    """A sparse reconstruction; rows of images are sorted by name.

    Attributes:
      cameras: batched `[V]`, OpenCV's convention.
      widths, heights: `[V]` int, of each image in pixels.
      names: `V` file names.
      points: `[M, 3]`.
      colors: `[M, 3]` in 0..1.
    """

    cameras: Camera
    widths: np.ndarray
    heights: np.ndarray
    names: tuple[str, ...]
    points: np.ndarray
    colors: np.ndarray


class _Lens(NamedTuple):
    width: int
    height: int
    K: np.ndarray


class _Image(NamedTuple):
    name: str
    camera: int
    viewmat: np.ndarray


def load_colmap(path: str | os.PathLike) -> ColmapModel:
    """Reads `cameras`, `images` and `points3D`, `.bin` or `.txt`, of a sparse folder (host).

    Raises:
      FileNotFoundError: no such folder or files.
      ValueError: a camera model with lens distortion, a truncated file, or an image whose camera is
        missing.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}")
    readers = {".bin": (_bin_cameras, _bin_images, _bin_points)}
    readers[".txt"] = (_txt_cameras, _txt_images, _txt_points)
    names = ("cameras", "images", "points3D")
    for suffix, (cameras, images, points) in readers.items():
        files = [path / f"{name}{suffix}" for name in names]
        if all(file.is_file() for file in files):
            try:
                lenses, shots = cameras(files[0]), images(files[1])
                cloud, colors = points(files[2])
            except (struct.error, IndexError) as error:
                raise ValueError(f"a file of {path} is truncated: {error}") from error
            return _assemble(lenses, shots, cloud, colors, path)
    raise FileNotFoundError(f"{path} has no {', '.join(names)}, all as .bin or all as .txt")


def _assemble(lenses, shots, points, colors, path) -> ColmapModel:
    if not shots:
        raise ValueError(f"{path} has no images")
    shots = sorted(shots, key=lambda shot: shot.name)
    missing = sorted({shot.camera for shot in shots} - lenses.keys())
    if missing:
        raise ValueError(f"{path}: images refer to cameras {missing}, which are not there")
    used = [lenses[shot.camera] for shot in shots]
    return ColmapModel(
        stack_cameras([shot.viewmat for shot in shots], [lens.K for lens in used]),
        np.array([lens.width for lens in used]),
        np.array([lens.height for lens in used]),
        tuple(shot.name for shot in shots),
        np.asarray(points, np.float32).reshape(-1, 3),
        np.asarray(colors, np.float32).reshape(-1, 3) / 255,
    )


def _lens(model: str, width: int, height: int, params, path: Path) -> _Lens:
    if model not in _PINHOLES:
        raise ValueError(
            f"{path}: camera model {model} has lens distortion; undistort first (colmap "
            f"image_undistorter), which leaves {' or '.join(_PINHOLES)}"
        )
    fx, fy, cx, cy = params if model == "PINHOLE" else (params[0], *params)
    return _Lens(width, height, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))


def _viewmat(quat, translation) -> np.ndarray:
    """World to camera of COLMAP's pose, in float64."""
    w, x, y, z = np.asarray(quat) / np.linalg.norm(quat)
    viewmat = np.eye(4)
    viewmat[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    viewmat[:3, 3] = translation
    return viewmat


class _Bytes:
    """A cursor over the bytes of a binary file."""

    def __init__(self, path: Path):
        self.data, self.at = path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.skip(struct.calcsize(f"<{layout}"))
        return values

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError(f"expected {self.at} bytes, found {len(self.data)}")

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise IndexError("a name does not end")
        start, self.at = self.at, end + 1
        return self.data[start:end].decode("utf-8")


def _bin_cameras(path: Path) -> dict[int, _Lens]:
    data = _Bytes(path)
    lenses = {}
    for _ in range(data.take("Q")[0]):
        number, model, width, height = data.take("iiQQ")
        name = _MODELS[model] if 0 <= model < len(_MODELS) else f"number {model}"
        params = data.take(f"{_PINHOLES.get(name, 0)}d")
        lenses[number] = _lens(name, width, height, params, path)
    return lenses


def _bin_images(path: Path) -> list[_Image]:
    data = _Bytes(path)
    shots = []
    for _ in range(data.take("Q")[0]):
        _, *pose, camera = data.take("i7di")
        name = data.text()
        data.skip(24 * data.take("Q")[0])
        shots.append(_Image(name, camera, _viewmat(pose[:4], pose[4:])))
    return shots


def _bin_points(path: Path) -> tuple[list, list]:
    data = _Bytes(path)
    points, colors = [], []
    for _ in range(data.take("Q")[0]):
        _, x, y, z, r, g, b, _, track = data.take("Q3d3BdQ")
        data.skip(8 * track)
        points.append((x, y, z))
        colors.append((r, g, b))
    return points, colors


def _rows(path: Path) -> Iterator[list[str]]:
    """Lines as words, without comments; empty lines too, which mean something among images."""
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            yield line.split()


def _txt_cameras(path: Path) -> dict[int, _Lens]:
    lenses = {}
    for row in filter(None, _rows(path)):
        number, model, width, height, *params = row
        lenses[int(number)] = _lens(model, int(width), int(height), [*map(float, params)], path)
    return lenses


def _txt_images(path: Path) -> list[_Image]:
    rows = _rows(path)
    shots = []
    for row in rows:
        if not row:
            continue
        pose = [float(x) for x in row[1:8]]
        shots.append(_Image(" ".join(row[9:]), int(row[8]), _viewmat(pose[:4], pose[4:])))
        next(rows, None)  # its points, perhaps none
    return shots


def _txt_points(path: Path) -> tuple[list, list]:
    rows = [row for row in _rows(path) if row]
    return (
        [[float(x) for x in row[1:4]] for row in rows],
        [[float(x) for x in row[4:7]] for row in rows],
    )
