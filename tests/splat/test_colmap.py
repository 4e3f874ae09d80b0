import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxlab import splat

CAMERAS = {
    1: ("SIMPLE_PINHOLE", 64, 48, (50.0, 32.0, 24.0)),
    7: ("PINHOLE", 40, 30, (50.0, 51, 20, 15)),
}
POINTS = [(3, (0.5, -1.0, 2.0), (255, 0, 128)), (9, (1.0, 1.0, 1.0), (0, 51, 255))]
_NUMBERS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4}


def shots():
    rng = np.random.default_rng(0)
    rows = []
    for number, (camera, name) in enumerate([(7, "b view.png"), (1, "a.png")]):
        quat = Rotation.random(random_state=number).as_quat()[[3, 0, 1, 2]]
        rows.append((number + 1, quat, rng.normal(size=3), camera, name, number))
    return rows


def write_text(folder, cameras=None):
    folder.mkdir(exist_ok=True)
    lines = ["# Camera list"]
    for number, (model, w, h, params) in (cameras or CAMERAS).items():
        lines.append(f"{number} {model} {w} {h} {' '.join(map(str, params))}")
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list"]
    for number, quat, shift, camera, name, marks in shots():
        lines.append(f"{number} {' '.join(map(str, [*quat, *shift]))} {camera} {name}")
        lines.append("1.5 2.5 3 " * marks)  # no marks: an empty line
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    lines = [f"{n} {' '.join(map(str, (*p, *c)))} 0.1 1 0" for n, p, c in POINTS]
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")


def write_binary(folder, cameras=None):
    folder.mkdir(exist_ok=True)
    data = struct.pack("<Q", len(cameras or CAMERAS))
    for number, (model, w, h, params) in (cameras or CAMERAS).items():
        data += struct.pack(f"<iiQQ{len(params)}d", number, _NUMBERS[model], w, h, *params)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", 2)
    for number, quat, shift, camera, name, marks in shots():
        data += struct.pack("<i7di", number, *quat, *shift, camera) + name.encode() + b"\0"
        data += struct.pack("<Q", marks) + struct.pack("<ddq", 1.5, 2.5, 3) * marks
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(POINTS))
    for number, point, color in POINTS:
        data += struct.pack("<Q3d3BdQ", number, *point, *color, 0.1, 2) + struct.pack(
            "<4i", 1, 0, 2, 5
        )
    (folder / "points3D.bin").write_bytes(data)


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_reads_a_model(write, tmp_path):
    write(tmp_path)
    model = splat.load_colmap(tmp_path)
    assert model.names == ("a.png", "b view.png")  # by name
    assert model.widths.tolist() == [64, 40]
    assert model.heights.tolist() == [48, 30]
    np.testing.assert_allclose(model.cameras.K[0], [[50, 0, 32], [0, 50, 24], [0, 0, 1]])
    np.testing.assert_allclose(model.cameras.K[1], [[50, 0, 20], [0, 51, 15], [0, 0, 1]])
    for row, (_, quat, shift, _, _, _) in zip((1, 0), shots(), strict=True):
        wanted = np.eye(4)
        wanted[:3, :3] = Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix()
        wanted[:3, 3] = shift
        np.testing.assert_allclose(model.cameras.viewmat[row], wanted, atol=1e-6)
    np.testing.assert_allclose(model.points, [p for _, p, _ in POINTS])
    np.testing.assert_allclose(model.colors, np.array([c for _, _, c in POINTS]) / 255, atol=1e-6)


@pytest.mark.parametrize("write", [write_text, write_binary])
@pytest.mark.parametrize("model", ["SIMPLE_RADIAL", "OPENCV"])
def test_refuses_distortion_by_name(write, model, tmp_path):
    write(tmp_path, {1: (model, 64, 48, (1.0,) * 8), 7: CAMERAS[7]})
    with pytest.raises(ValueError, match=f"camera model {model} has lens distortion; undistort"):
        splat.load_colmap(tmp_path)


def test_refuses_missing_and_truncated_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        splat.load_colmap(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="has no cameras, images, points3D"):
        splat.load_colmap(tmp_path)
    write_binary(tmp_path)
    for name in ("cameras", "images", "points3D"):
        write_binary(tmp_path)
        path = tmp_path / f"{name}.bin"
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(ValueError, match="truncated"):
            splat.load_colmap(tmp_path)
    write_text(tmp_path / "text", {1: CAMERAS[1]})
    with pytest.raises(ValueError, match=r"refer to cameras \[7\]"):
        splat.load_colmap(tmp_path / "text")
