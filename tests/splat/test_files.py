import shutil

import numpy as np
import pytest

from jaxlab import splat
from tests.splat.scenes import DATA
from tests.splat.test_ply import any_cloud


def test_reader_by_extension():
    for name in ("fitted_flat_0.ply", "minimal.splat", "minimal-v3.spz"):
        cloud = splat.load_cloud(DATA / name)
        assert isinstance(cloud, splat.GaussianCloud)
        assert all(x.dtype == np.float32 for x in cloud)


def test_refuses_other_extensions_and_missing_files(tmp_path):
    with pytest.raises(
        ValueError, match=r"extension must be one of .ply, .splat, .spz, got '.obj'"
    ):
        splat.load_cloud(tmp_path / "a.obj")
    for suffix in ("ply", "splat", "spz"):
        with pytest.raises(FileNotFoundError):
            splat.load_cloud(tmp_path / f"none.{suffix}")


@pytest.fixture
def folder(tmp_path):
    for kind in ("wire", "flat", "glass"):
        (tmp_path / kind).mkdir()
        for n in range(2):
            shutil.copy(DATA / f"fitted_{kind}_{n}.ply", tmp_path / kind)
    splat.write_splat(tmp_path / "wire" / "few.splat", any_cloud(10, 1))
    (tmp_path / "wire" / "notes.txt").write_text("not a cloud")
    return tmp_path


@pytest.mark.parametrize("method", ["random", "fps"])
def test_folder_of_clouds(folder, method):
    data = splat.load_cloud_folder(folder, num_points=50, method=method, min_opacity=0.02)
    assert data.class_names == ("flat", "glass", "wire")
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert data.cloud.means.shape == (7, 50, 3)
    assert data.cloud.sh.shape == (7, 50, 1, 3)
    radius = np.linalg.norm(data.cloud.means, axis=-1).max(1)
    assert (radius <= 1 + 1e-5).all()
    assert (data.cloud.opacity_logits >= np.log(0.02 / 0.98) - 1e-4).all()
    whole = splat.normalize_cloud(splat.load_cloud(folder / "flat" / "fitted_flat_0.ply"))
    first = {tuple(row) for row in data.cloud.means[0].tolist()}
    assert len(first) == 50  # no Gaussian twice where there are enough
    assert len({tuple(row) for row in data.cloud.means[5].tolist()}) == 50
    assert len({tuple(row) for row in data.cloud.means[4].tolist()}) <= 10  # `few.splat`
    assert whole.means.shape[0] == 256
    again = splat.load_cloud_folder(folder, num_points=50, method=method, min_opacity=0.02)
    np.testing.assert_array_equal(again.cloud.means, data.cloud.means)


def test_hidden_files_and_broken_rows_are_left_out(tmp_path):
    cloud = any_cloud(60)
    (tmp_path / "a").mkdir()
    cloud.means[3] = np.nan
    splat.write_ply(tmp_path / "a" / "x.ply", cloud)
    (tmp_path / "a" / "._x.ply").write_bytes(b"what macOS leaves")
    data = splat.load_cloud_folder(tmp_path, num_points=59, min_opacity=0.0)
    assert len(data.labels) == 1
    assert all(np.isfinite(leaf).all() for leaf in data.cloud)


def test_scales_shrink_with_the_cloud(tmp_path):
    cloud = any_cloud(60)
    (tmp_path / "a").mkdir()
    splat.write_ply(tmp_path / "a" / "x.ply", cloud)
    data = splat.load_cloud_folder(tmp_path, num_points=60, min_opacity=0.0)
    centred = cloud.means - cloud.means.mean(0)
    radius = np.linalg.norm(centred, axis=1).max()
    wanted = np.sort((cloud.log_scales - np.log(radius)).ravel())
    np.testing.assert_allclose(np.sort(data.cloud.log_scales[0].ravel()), wanted, atol=1e-5)


def test_refuses_folders_without_clouds(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        splat.load_cloud_folder(tmp_path / "none", num_points=8)
    with pytest.raises(ValueError, match="has no class folder"):
        splat.load_cloud_folder(tmp_path, num_points=8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no file with .ply, .splat, .spz"):
        splat.load_cloud_folder(tmp_path, num_points=8)
    splat.write_ply(
        tmp_path / "empty" / "faint.ply", any_cloud(5)._replace(opacity_logits=np.full(5, -9.0))
    )
    with pytest.raises(ValueError, match=r"faint.ply has no Gaussian of .* an opacity of 0.005"):
        splat.load_cloud_folder(tmp_path, num_points=8)
    with pytest.raises(ValueError, match="method must be one of random, fps, got 'grid'"):
        splat.load_cloud_folder(tmp_path, num_points=8, method="grid")
