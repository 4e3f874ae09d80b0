import gzip
import struct

import numpy as np
import pytest

from jaxlab import splat
from tests.splat.scenes import DATA


def pack(cloud, version=3, fraction_bits=12):
    """An `.spz` file, written value by value."""
    count, bands = cloud.sh.shape[:2]
    degree = int(np.sqrt(bands)) - 1
    data = struct.pack("<3I4B", 0x5053474E, version, count, degree, fraction_bits, 0, 0)
    for value in cloud.means.ravel():
        data += struct.pack("<i", round(float(value) * 2**fraction_bits))[:3]
    opacity = 1 / (1 + np.exp(-cloud.opacity_logits))
    data += bytes(np.round(255 * opacity).astype(np.uint8))
    data += bytes(np.clip(np.round((cloud.sh[:, 0] * 0.15 + 0.5) * 255), 0, 255).astype(np.uint8))
    data += bytes(np.clip(np.round((cloud.log_scales + 10) * 16), 0, 255).astype(np.uint8))
    for quat in cloud.quats:
        w, x, y, z = quat / np.linalg.norm(quat)
        if version == 2:
            sign = 1 if w >= 0 else -1
            data += bytes(np.round((sign * np.array([x, y, z]) + 1) * 127.5).astype(np.uint8))
            continue
        q = np.array([x, y, z, w])
        largest = int(np.abs(q).argmax())
        q *= np.sign(q[largest])
        word = largest << 30
        for shift, value in zip((20, 10, 0), np.delete(q, largest), strict=True):
            field = (int(value < 0) << 9) | round(abs(value) * 511 / np.sqrt(0.5))
            word |= field << shift
        data += struct.pack("<I", word)
    data += bytes(np.clip(np.round(cloud.sh[:, 1:] * 128 + 128), 0, 255).astype(np.uint8).ravel())
    return gzip.compress(data)


def small_cloud(degree):
    rng = np.random.default_rng(degree)
    count, bands = 40, (degree + 1) ** 2
    return splat.GaussianCloud(
        5 * rng.normal(size=(count, 3)),
        rng.uniform(-8, 2, (count, 3)),
        rng.normal(size=(count, 4)),
        rng.normal(size=count),
        np.clip(0.4 * rng.normal(size=(count, bands, 3)), -0.95, 0.95),
    )


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("degree", [0, 3])
def test_reads_to_the_precision_of_its_bits(degree, version, tmp_path):
    cloud = small_cloud(degree)
    (tmp_path / "a.spz").write_bytes(pack(cloud, version))
    got = splat.read_spz(tmp_path / "a.spz")
    np.testing.assert_allclose(got.means, cloud.means, atol=2**-12)
    np.testing.assert_allclose(got.log_scales, cloud.log_scales, atol=0.04)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-got.opacity_logits)), 1 / (1 + np.exp(-cloud.opacity_logits)), atol=0.003
    )
    np.testing.assert_allclose(got.sh[:, 1:], cloud.sh[:, 1:], atol=0.01)
    np.testing.assert_allclose(got.sh[:, 0], cloud.sh[:, 0], atol=0.02)
    np.testing.assert_allclose(
        splat.quat_to_rotmat(got.quats),
        splat.quat_to_rotmat(cloud.quats.astype(np.float32)),
        atol=0.15 if version == 2 else 0.01,
    )


@pytest.mark.parametrize("version", [2, 3])
def test_reads_the_shipped_files(version):
    cloud = splat.read_spz(DATA / f"minimal-v{version}.spz")
    side = -1 if version == 2 else 1  # the two were written in different frames
    np.testing.assert_array_equal(cloud.means, [[-1, 0, side], [0, 0, side], [-1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(cloud.log_scales, -2.3125)
    np.testing.assert_allclose(1 / (1 + np.exp(-cloud.opacity_logits)), 230 / 255, rtol=1e-6)
    np.testing.assert_allclose(np.abs(splat.quat_to_rotmat(cloud.quats)).sum(), 12, atol=0.2)


def test_refuses_version_4_by_name():
    with pytest.raises(ValueError, match="version 4, whose streams are packed with zstandard"):
        splat.read_spz(DATA / "minimal-v4.spz")


def test_refuses_damaged_files(tmp_path):
    whole = pack(small_cloud(1))
    damaged = {
        "cut.spz": (whole[:-20], "truncated"),
        "short.spz": (
            gzip.compress(gzip.decompress(whole)[:-1]),
            "expected 1160 bytes, found 1159",
        ),
        "head.spz": (gzip.compress(b"1234"), "a header has 16 bytes, found 4"),
        "magic.spz": (gzip.compress(bytes(200)), "expected the magic number 0x5053474e, found 0x0"),
        "plain.spz": (b"nothing of the kind", "no .spz file"),
        "version.spz": (
            gzip.compress(struct.pack("<3I4B", 0x5053474E, 1, 0, 0, 0, 0, 0)),
            "version 1",
        ),
    }
    for name, (data, message) in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            splat.read_spz(tmp_path / name)
