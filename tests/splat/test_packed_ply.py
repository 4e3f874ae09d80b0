import numpy as np
import pytest

from jaxlab import splat
from tests.splat.test_ply import any_cloud

C0 = 0.28209479177387814
AXES = ("x", "y", "z")


def pack(path, cloud, *, color_range=True, bands=True, drop=()):
    """Writes the compressed layout, one Gaussian after the other."""
    count = len(cloud.means)
    chunks, words, codes = [], [], []
    rgb = C0 * cloud.sh[:, 0] + 0.5
    opacity = 1 / (1 + np.exp(-cloud.opacity_logits))
    for start in range(0, count, 256):
        rows = slice(start, start + 256)
        parts = [cloud.means[rows], cloud.log_scales[rows], rgb[rows]]
        ends = [np.stack([p.min(0), p.max(0)]) for p in parts]
        chunks.append([*ends[0].ravel(), *ends[1].ravel(), *ends[2].ravel()])

        def units(value, end, bits):
            top = 2**bits - 1
            share = (value - end[0]) / np.maximum(end[1] - end[0], 1e-9)
            return [round(s * t) for s, t in zip(share, top, strict=True)]

        bits = np.array([11, 10, 11])
        for n in range(start, min(start + 256, count)):
            x, y, z = units(cloud.means[n], ends[0], bits)
            sx, sy, sz = units(cloud.log_scales[n], ends[1], bits)
            color_ends = ends[2] if color_range else np.array([[0.0] * 3, [1.0] * 3])
            r, g, b = units(np.clip(rgb[n], *color_ends), color_ends, np.array([8, 8, 8]))
            q = cloud.quats[n] / np.linalg.norm(cloud.quats[n])
            largest = int(np.abs(q).argmax())
            q = q * np.sign(q[largest])
            rot = largest << 30
            for shift, value in zip((20, 10, 0), np.delete(q, largest), strict=True):
                rot |= round((value / np.sqrt(2) + 0.5) * 1023) << shift
            color = r << 24 | g << 16 | b << 8 | round(255 * opacity[n])
            words.append([x << 21 | y << 11 | z, rot, sx << 21 | sy << 11 | sz, color])
            rest = cloud.sh[n, 1:].T.ravel()
            codes.append(np.clip(np.floor((rest / 8 + 0.5) * 256), 0, 255))
    names = [f"{e}_{a}" for e in ("min", "max") for a in AXES]
    names += [f"{e}_scale_{a}" for e in ("min", "max") for a in AXES]
    if color_range:
        names += [f"{e}_{c}" for e in ("min", "max") for c in "rgb"]
    header = ["ply", "format binary_little_endian 1.0", f"element chunk {len(chunks)}"]
    header += [f"property float {name}" for name in names if name not in drop]
    header += [f"element vertex {count}"]
    header += [f"property uint packed_{n}" for n in ("position", "rotation", "scale", "color")]
    num_rest = cloud.sh[0, 1:].size
    if num_rest and bands:
        header += [f"element sh {count}"]
        header += [f"property uchar f_rest_{i}" for i in range(num_rest)]
    with open(path, "wb") as file:
        file.write("\n".join([*header, "end_header"]).encode() + b"\n")
        kept = [i for i, name in enumerate(names) if name not in drop]
        file.write(np.array(chunks)[:, kept].astype("<f4").tobytes())
        file.write(np.array(words, np.uint32).astype("<u4").tobytes())
        if num_rest and bands:
            file.write(np.array(codes).astype("u1").tobytes())


@pytest.mark.parametrize("color_range", [True, False])
@pytest.mark.parametrize("degree", [0, 1])
def test_unpacks_to_the_precision_of_its_bits(degree, color_range, tmp_path):
    cloud = any_cloud(300, degree)  # two chunks
    cloud = cloud._replace(sh=0.5 * cloud.sh)
    pack(tmp_path / "a.ply", cloud, color_range=color_range)
    got = splat.read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(got.means, cloud.means, atol=8 / 1023)
    np.testing.assert_allclose(got.log_scales, cloud.log_scales, atol=8 / 1023)
    np.testing.assert_allclose(
        splat.quat_to_rotmat(got.quats), splat.quat_to_rotmat(cloud.quats), atol=0.01
    )
    o, wanted = (1 / (1 + np.exp(-x)) for x in (got.opacity_logits, cloud.opacity_logits))
    np.testing.assert_allclose(o, wanted, atol=0.5 / 255 + 1e-6)
    rgb, want = 0.5 + C0 * got.sh[:, 0], 0.5 + C0 * cloud.sh[:, 0]
    np.testing.assert_allclose(rgb, want if color_range else np.clip(want, 0, 1), atol=0.01)
    np.testing.assert_allclose(got.sh[:, 1:], cloud.sh[:, 1:], atol=8 / 256 + 0.02)
    assert got.sh.shape == cloud.sh.shape


def test_extreme_codes_of_bands(tmp_path):
    cloud = any_cloud(2, 1)
    cloud = cloud._replace(
        sh=np.concatenate([cloud.sh[:, :1], [[[-9.0] * 3] * 3, [[9.0] * 3] * 3]], 1)
    )
    pack(tmp_path / "a.ply", cloud)
    np.testing.assert_array_equal(splat.read_ply(tmp_path / "a.ply").sh[:, 1, 0], [-4, 4])


def test_refuses_missing_ranges_and_rows(tmp_path):
    pack(tmp_path / "a.ply", any_cloud(3), drop=("min_scale_x",))
    with pytest.raises(ValueError, match="chunks lack min_scale_x"):
        splat.read_ply(tmp_path / "a.ply")
    pack(tmp_path / "b.ply", any_cloud(300))
    data = (tmp_path / "b.ply").read_bytes()
    start = data.index(b"end_header\n") + 11
    data = data[:start].replace(b"chunk 2", b"chunk 1") + data[start + 72 :]
    (tmp_path / "b.ply").write_bytes(data)
    with pytest.raises(ValueError, match="300 vertices need 2 chunks, found 1"):
        splat.read_ply(tmp_path / "b.ply")


def test_chunks_of_lists_are_no_chunks(tmp_path):
    names = ("position", "rotation", "scale", "color")
    header = ["ply", "format ascii 1.0", "element chunk 1", "property list uchar float min_x"]
    header += ["element vertex 1", *(f"property uint packed_{n}" for n in names), "end_header"]
    (tmp_path / "a.ply").write_text("\n".join([*header, "1 0.5", "0 0 0 0"]) + "\n")
    with pytest.raises(ValueError, match="its vertices lack x, y, z"):
        splat.read_ply(tmp_path / "a.ply")
