import numpy as np
import pytest

from jaxlab import splat
from tests.splat.scenes import DATA
from tests.splat.test_ply import any_cloud

C0 = 0.28209479177387814


def test_reads_the_shipped_file():
    cloud = splat.read_splat(DATA / "minimal.splat")
    np.testing.assert_array_equal(cloud.means, [[-1, 0, -1], [0, 0, -1], [-1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(np.exp(cloud.log_scales), 0.1, rtol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-cloud.opacity_logits)), 230 / 255, rtol=1e-6)
    colors = 0.5 + C0 * cloud.sh[:, 0]
    np.testing.assert_allclose(colors[0], np.array([85, 85, 128]) / 255, rtol=1e-6)
    np.testing.assert_allclose(cloud.quats, [[0, 0, 0, 1]] * 4)


def test_round_trip_to_eight_bits(tmp_path):
    cloud = any_cloud(200, 1)
    splat.write_splat(tmp_path / "a.splat", cloud)
    got = splat.read_splat(tmp_path / "a.splat")
    opacity = 1 / (1 + np.exp(-cloud.opacity_logits.astype(float)))
    order = np.argsort(-np.exp(cloud.log_scales.sum(1)) * opacity)
    np.testing.assert_array_equal(got.means, cloud.means[order])
    np.testing.assert_allclose(got.log_scales, cloud.log_scales[order], atol=1e-6)
    np.testing.assert_allclose(
        splat.quat_to_rotmat(got.quats), splat.quat_to_rotmat(cloud.quats[order]), atol=0.05
    )
    rgb = np.clip(0.5 + C0 * cloud.sh[order, 0], 0, 1)
    np.testing.assert_allclose(0.5 + C0 * got.sh[:, 0], rgb, atol=0.51 / 255)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-got.opacity_logits)), opacity[order], atol=0.51 / 255
    )


def test_a_second_round_trip_changes_nothing(tmp_path):
    splat.write_splat(tmp_path / "a.splat", any_cloud(50))
    once = splat.read_splat(tmp_path / "a.splat")
    splat.write_splat(tmp_path / "b.splat", once)
    twice = splat.read_splat(tmp_path / "b.splat")
    np.testing.assert_allclose(twice.sh, once.sh, atol=1e-6)
    np.testing.assert_allclose(twice.opacity_logits, once.opacity_logits, atol=1e-5)


def test_extremes_stay_finite(tmp_path):
    cloud = any_cloud(4)._replace(
        opacity_logits=np.array([60, -60, 0, 0]),
        quats=np.zeros((4, 4)),
        log_scales=np.full((4, 3), -90),
    )
    splat.write_splat(tmp_path / "a.splat", cloud)
    assert all(np.isfinite(x).all() for x in splat.read_splat(tmp_path / "a.splat"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_refuses_other_sizes(size, tmp_path):
    (tmp_path / "a.splat").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"has {size} bytes; expected a positive multiple of 32"):
        splat.read_splat(tmp_path / "a.splat")


def test_refuses_no_gaussians(tmp_path):
    with pytest.raises(ValueError, match="at least one Gaussian"):
        splat.write_splat(tmp_path / "a.splat", any_cloud(0))
