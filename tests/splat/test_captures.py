import json

import numpy as np
import pytest

from jaxlab import splat

PIL = pytest.importorskip("PIL.Image")


def write_capture(folder, *, split=None, suffix="", **extra):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    frames, images, poses = [], [], []
    for n in range(2):
        image = rng.integers(0, 256, (6, 8, 4), dtype=np.uint8)
        PIL.fromarray(image).save(folder / f"r_{n}.png")
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose[:3, :3] *= np.linalg.det(pose[:3, :3])
        pose[:3, 3] = rng.normal(size=3)
        frames.append({"file_path": f"./r_{n}{suffix}", "transform_matrix": pose.tolist()})
        images.append(image)
        poses.append(pose)
    name = f"transforms_{split}.json" if split else "transforms.json"
    (folder / name).write_text(json.dumps({"camera_angle_x": 0.8, "frames": frames} | extra))
    return np.stack(images), np.stack(poses)


@pytest.mark.parametrize(("split", "suffix"), [(None, ""), ("train", ".png"), ("test", "")])
def test_poses_and_images(tmp_path, split, suffix):
    images, poses = write_capture(tmp_path, split=split, suffix=suffix)
    capture = splat.load_transforms(tmp_path, split or "train")
    assert capture.names == (f"./r_0{suffix}", f"./r_1{suffix}")
    straight = images.astype(np.float32) / 255
    np.testing.assert_allclose(capture.images[..., 3], straight[..., 3], atol=1e-6)
    np.testing.assert_allclose(
        capture.images[..., :3], straight[..., :3] * straight[..., 3:], atol=1e-6
    )
    focal = 8 / (2 * np.tan(0.4))
    np.testing.assert_allclose(capture.cameras.K[0], [[focal, 0, 4], [0, focal, 3], [0, 0, 1]])
    for viewmat, pose in zip(capture.cameras.viewmat, poses, strict=True):
        # A point in front of an OpenGL camera is at negative z there, at positive z here.
        point = pose @ [0.3, 0.2, -2.0, 1.0]
        np.testing.assert_allclose(viewmat @ point, [0.3, -0.2, 2.0, 1.0], atol=1e-5)


def test_intrinsics_of_the_file(tmp_path):
    write_capture(tmp_path, fl_x=11.0, fl_y=12.0, cx=3.5, cy=2.5)
    capture = splat.load_transforms(tmp_path / "transforms.json")
    np.testing.assert_allclose(capture.cameras.K[1], [[11, 0, 3.5], [0, 12, 2.5], [0, 0, 1]])


def test_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"transforms_train\.json"):
        splat.load_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(ValueError, match="lists no frames"):
        splat.load_transforms(tmp_path)
    write_capture(tmp_path)
    record = json.loads((tmp_path / "transforms.json").read_text())
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": record["frames"]}))
    with pytest.raises(ValueError, match="neither camera_angle_x nor fl_x"):
        splat.load_transforms(tmp_path)
    for name, value, message in (
        ("file_path", None, "frame 0 has no file_path"),
        ("transform_matrix", None, "frame 0 has no transform_matrix"),
        ("transform_matrix", [[1.0]], r"frame 0: transform_matrix must be 4 x 4, got \(1, 1\)"),
        ("transform_matrix", np.zeros((4, 4)).tolist(), "frame 0: .* is singular"),
    ):
        first = {k: v for k, v in record["frames"][0].items() if k != name}
        changed = [first if value is None else first | {name: value}]
        (tmp_path / "transforms.json").write_text(json.dumps(record | {"frames": changed}))
        with pytest.raises(ValueError, match=message):
            splat.load_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text("[]")
    with pytest.raises(ValueError, match="lists no frames"):
        splat.load_transforms(tmp_path)
    write_capture(tmp_path, k1=0.1, p1=0.0)
    with pytest.raises(ValueError, match=r"has lens distortion \(k1\): undistort"):
        splat.load_transforms(tmp_path)
    write_capture(tmp_path)
    PIL.fromarray(np.zeros((3, 3, 4), np.uint8)).save(tmp_path / "r_1.png")
    with pytest.raises(ValueError, match="images must have one size"):
        splat.load_transforms(tmp_path)
    (tmp_path / "r_1.png").unlink()
    with pytest.raises(FileNotFoundError, match="r_1"):
        splat.load_transforms(tmp_path)
