"""Posed images in the layout of NeRF's synthetic scenes: `transforms.json`."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.splat.types import Camera
from jaxlab.user_files import read_json

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL (y up, z back) to OpenCV
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_SUFFIXES = ("", ".png", ".jpg", ".jpeg")


class Capture(NamedTuple):
    """Images of one scene with their cameras.

    Attributes:
      images: `[V, H, W, 4]` premultiplied RGBA in 0..1, float32.
      cameras: batched `[V]`.
      names: file of each image.
    """

    images: np.ndarray
    cameras: Camera
    names: tuple[str, ...]


def load_transforms(path: str | os.PathLike, split: str = "train") -> Capture:
    """Reads `transforms_<split>.json`, else `transforms.json`, and its images (host).

    Poses are camera-to-world in OpenGL's convention. Intrinsics come from `camera_angle_x`, or
    from `fl_x`, `fl_y`, `cx`, `cy` of the file or of a frame.

    Args:
      path: the folder, or the JSON file itself.
      split: which file to look for in a folder.

    Raises:
      FileNotFoundError: no such folder, JSON file or image.
      ValueError: no frames, a frame without its image or pose, a pose that cannot be inverted,
        lens distortion (undistort the images first), no focal length, or images of several sizes.
      ImportError: Pillow is not installed.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        found = [path / name for name in (f"transforms_{split}.json", "transforms.json")]
        file = next((entry for entry in found if entry.is_file()), found[0])
    if not file.is_file():
        raise FileNotFoundError(f"no {file}, and no transforms.json beside it")
    record = read_json(file)
    frames = record.get("frames") if isinstance(record, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{file} lists no frames")
    images, viewmats, intrinsics, names = [], [], [], []
    for number, frame in enumerate(frames):
        for field in ("file_path", "transform_matrix"):
            if field not in frame:
                raise ValueError(f"{file}: frame {number} has no {field}")
        name = _find_image(file.parent, frame["file_path"])
        image = read_image(name)
        images.append(image)
        viewmats.append(_view(frame["transform_matrix"], f"{file}: frame {number}"))
        intrinsics.append(_intrinsics({**record, **frame}, image.shape[1], image.shape[0], file))
        names.append(str(frame["file_path"]))
    return Capture(stack_images(images, names), stack_cameras(viewmats, intrinsics), tuple(names))


def _view(matrix: Any, where: str) -> np.ndarray:
    """World to camera `[4, 4]` of a camera-to-world matrix in OpenGL's convention."""
    pose = np.asarray(matrix, np.float64)
    if pose.shape != (4, 4):
        raise ValueError(f"{where}: transform_matrix must be 4 x 4, got {pose.shape}")
    if not (np.isfinite(pose).all() and abs(np.linalg.det(pose)) > 1e-12):
        raise ValueError(f"{where}: transform_matrix is singular or not finite")
    return np.linalg.inv(pose @ _FLIP)


def _find_image(folder: Path, name: str) -> Path:
    for suffix in _SUFFIXES:
        candidate = folder / f"{name}{suffix}"
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no image {folder / name}, with or without .png or .jpg")


def _intrinsics(record: dict, width: int, height: int, file: Path) -> np.ndarray:
    distortion = [name for name in _DISTORTION if float(record.get(name) or 0)]
    if distortion:
        raise ValueError(
            f"{file} has lens distortion ({', '.join(distortion)}): undistort the images first"
        )
    if "fl_x" in record:
        fx = float(record["fl_x"])
    elif "camera_angle_x" in record:
        fx = width / (2 * math.tan(float(record["camera_angle_x"]) / 2))
    else:
        raise ValueError(f"{file} has neither camera_angle_x nor fl_x")
    fy = float(record.get("fl_y", fx))
    cx, cy = float(record.get("cx", width / 2)), float(record.get("cy", height / 2))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Premultiplied RGBA `[H, W, 4]` in 0..1, float32, of an image file (straight alpha).

    Raises:
      FileNotFoundError: no such file.
      ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
    return np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)


def stack_images(images: list[np.ndarray], names: list[str]) -> np.ndarray:
    """The images as one array.

    Raises:
      ValueError: images of several sizes.
    """
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        shapes = {image.shape[:2]: name for image, name in zip(images, names, strict=True)}
        raise ValueError(f"images must have one size, got {shapes}; resize or crop them")
    return np.stack(images)


def stack_cameras(viewmats: list[np.ndarray], intrinsics: list[np.ndarray]) -> Camera:
    """One batched camera, float32."""
    return Camera(np.stack(viewmats).astype(np.float32), np.stack(intrinsics).astype(np.float32))
