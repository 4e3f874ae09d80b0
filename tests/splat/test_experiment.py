import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.runs import Run
from jaxlab.splat import capture_fit, experiment
from jaxlab.splat.studies import ambiguity, analytic, coefficients, fitted
from tests.experiments import check_restart, check_rows
from tests.splat.scenes import DATA

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    num_seeds=1,
    objects_per_class=4,
    num_points=32,
    steps=4,
    batch_size=8,
    fit_size=12,
    fit_views=4,
    fit_gaussians=24,
    fit_steps=5,
    fit_counts=(24, 32),
    fit_objects=4,
    compared_objects=1,
    fitted_points=32,
    fitted_steps=3,
)
ROWS = [f"S{n}" for n in range(1, 14)]
CONTROLS = ["control-permuted", "control-shuffled", "control-sqo"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("splat")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS + CONTROLS)
    assert verdicts["S8"] == "pass"
    assert verdicts["S9"] == "reported"  # one backbone
    assert verdicts["S11"] == verdicts["S12"] == "not run"
    assert all(verdicts[row] == "reported" for row in CONTROLS)
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert drawn == {
        *("ablation", "backbones", "confusion", "embedding"),
        *("fitted_views", "number_of_gaussians", "surface_statistics"),
    }
    boxes = sorted((workdir / "artifacts" / "clouds").rglob("*.ply"))
    assert len(boxes) == 3 * TINY.fit_objects
    assert splat.read_ply(boxes[0]).means.shape == (24, 3)


class Guessed:
    """A table of chance accuracies."""

    def accuracies(self, model, features):
        return np.array([1.0 if features == "posq" else 0.3])  # it learns what can be


@pytest.mark.parametrize("leaks", [False, True])
def test_positions_that_tell_the_surface_by_their_extent_fail(monkeypatch, leaks):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(90, 20, 3)) * np.array([1.0, 1.0, 0.2])
    labels = np.arange(90) % 9
    if leaks:  # the radii and the centroids stay
        means[labels % 3 == 1] = means[labels % 3 == 1][..., [2, 1, 0]]
    clouds = splat.GaussianCloud(
        means,
        np.zeros((90, 20, 3)),
        np.ones((90, 20, 4)),
        np.zeros((90, 20)),
        np.zeros((90, 20, 1, 3)),
    )
    data = splat.CloudDataset(splat.normalize_cloud(clouds), labels, ())
    monkeypatch.setattr(analytic, "dataset", lambda config, seed, part: data)
    values = analytic.positions_by_surface(TINY)
    wires = data.cloud.means[labels % 3 == 1]
    np.testing.assert_allclose(values["std_z"][1], wires[..., 2].std(1), rtol=1e-5)
    np.testing.assert_allclose(values["max_x"][1], wires[..., 0].max(1), rtol=1e-5)
    claim = ambiguity._positions(TINY, Guessed(), "pointnet")
    assert claim.verdict == ("fail" if leaks else "pass")


@pytest.mark.parametrize(("wires_of_400", "verdict"), [(0.038, "pass"), (0.034, "fail")])
def test_few_plates_are_held_against_400_wires(tmp_path, monkeypatch, wires_of_400, verdict):
    losses = {
        "flat": {64: 0.035, 400: 0.03, 1600: 0.02},
        "wire": {64: 0.05, 400: wires_of_400, 1600: 0.03},
    }

    def fit(config, run, kind, number, *, count, texture):
        return {"loss": losses[kind][count], "psnr": 20.0}

    monkeypatch.setattr(fitted, "fitted", fit)
    config = dataclasses.replace(TINY, fit_counts=experiment.PRESETS["paper"].fit_counts)
    with Run(tmp_path, config) as run:
        claim = coefficients._few(config, run)
    assert claim.verdict == verdict
    assert "plates with 64 reach the loss of wires with 400." in claim.detail


def test_a_fit_and_its_points_have_keys_of_their_own(monkeypatch):
    keys = []

    def points_of(key, obj, count):
        keys.append(key)
        return np.zeros((count, 3))

    def fit_with(key, *args):
        keys.append(key)
        raise MemoryError("enough")

    monkeypatch.setattr(fitted, "sample_surface", points_of)
    monkeypatch.setattr(fitted, "fit", fit_with)
    monkeypatch.setattr(fitted, "views", lambda *args, **settings: None)
    with pytest.raises(MemoryError):
        fitted._fit(TINY, "wire", 0, 24, 0.1)
    points, steps = (np.asarray(jax.random.key_data(key)).tolist() for key in keys)
    assert points != steps


def test_rows_without_their_data_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.tables, "measure", lambda config, run: {})
    monkeypatch.setattr(experiment.coefficients, "measure", lambda config, run, tables: [])
    config = dataclasses.replace(TINY, experiment="fitted")
    with Run(tmp_path, config) as run:
        claims = experiment.run(config, run)
    missing = [row for row in ROWS if row not in ("S3", "S4", "S5", "S6")]
    assert [claim.id for claim in claims] == missing + CONTROLS
    assert {claim.verdict for claim in claims} == {"not run"}


def test_a_restart_computes_only_what_is_missing_and_ends_the_same(finished):
    removed = ["analytic_pointnet_po_0", "gaussians_wire_1_24", "fitted_pointnet_p_0_1"]
    check_restart(experiment, TINY, *finished, removed=removed, kept="gaussians_flat_0_24")


def test_own_clouds_are_a_third_data_set(tmp_path):
    for kind in ("flat", "wire"):
        (tmp_path / "clouds" / kind).mkdir(parents=True)
        for n in range(2):
            cloud = splat.load_cloud(DATA / f"fitted_{kind}_{n}.ply")
            for turn in range(2):
                moved = splat.transform_cloud(cloud, scale=1.0 + turn)
                splat.write_ply(tmp_path / "clouds" / kind / f"{n}{turn}.ply", moved)
    config = dataclasses.replace(
        TINY, experiment="folder", cloud_root=str(tmp_path / "clouds"), checkpoint_every=2
    )
    with Run(tmp_path / "run", config) as run:
        claims = {claim.id: claim for claim in experiment.run(config, run)}
    assert claims["S8"].measured == "2 classes, 8 objects"
    assert claims["S7"].measured.startswith("own: p ")
    assert set(claims) == {*ROWS, *CONTROLS}
    assert {claims[row].verdict for row in ("S1", "S4", "S13", *CONTROLS)} == {"not run"}
    checkpoints = tmp_path / "run" / "checkpoints"
    (folder,) = checkpoints.glob("own_pointnet_posq_0_*")  # named by the content of the clouds
    assert (folder / "4").is_dir()
    result = tmp_path / "run" / "results" / f"{folder.name}.npz"
    with np.load(result) as stored:
        losses = stored["losses"]
    # Without its result, a training goes on from its last checkpoint, to the same numbers.
    result.unlink()
    with Run(tmp_path / "run", config) as run:
        experiment.run(config, run)
    with np.load(result) as stored:
        np.testing.assert_array_equal(stored["losses"], losses)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, analytic"),
        ({"num_seeds": 0}, "num_seeds must be >= 1, got 0"),
        ({"num_points": 31}, "num_points must be >= 32, got 31"),
        ({"models": ("vgg",)}, "models must be some of pointnet, .* got"),
        ({"models": ()}, "models must be some of"),
        ({"feature_sets": ("p", "posq", "px")}, "feature_set must hold letters"),
        ({"feature_sets": ("p", "posq", "c")}, "the experiments use p, o, s and q, got 'c'"),
        ({"feature_sets": ("po",)}, "feature_sets must hold p and posq"),
        ({"fit_counts": (3, 64)}, "fits need at least 4 Gaussians"),
        ({"experiment": "folder"}, "needs --cloud_root"),
    ],
)
def test_refuses(change, message, tmp_path):
    config = dataclasses.replace(TINY, **change)
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match=message):
        experiment.run(config, run)


FIT = dataclasses.replace(
    capture_fit.PRESETS["smoke"],
    size=12,
    views=6,
    points=20,
    capacity=30,
    steps=12,
    densify_every=4,
    checkpoint_every=4,
)


def fit_capture(workdir, **changes):
    config = dataclasses.replace(FIT, **changes)
    with Run(workdir, config) as run:
        (claim,) = capture_fit.run(config, run)
    return claim


def test_a_generated_object_is_fitted_and_written(tmp_path):
    claim = fit_capture(tmp_path / "run", out=str(tmp_path / "box.ply"))
    assert "held-out views" in claim.measured
    cloud = splat.load_cloud(tmp_path / "box.ply")
    assert 4 <= len(cloud.means) <= 30
    assert (tmp_path / "run" / "artifacts" / "viewer.html").exists()
    again = fit_capture(tmp_path / "again", out=str(tmp_path / "again.splat"))
    assert again.measured == claim.measured
    assert len(splat.load_cloud(tmp_path / "again.splat").means) == len(cloud.means)


def test_the_paper_preset_has_the_published_schedule():
    settings = capture_fit._fit_config(capture_fit.PRESETS["paper"], 2.0)
    published = {
        "num_steps": 30_000,
        "lr_means": 1.6e-4,
        "lr_means_final": 1.6e-6,
        "lr_scales": 5e-3,
        "lr_quats": 1e-3,
        "lr_opacity": 5e-2,
        "lr_sh": 2.5e-3,
        "lr_decay": 1.0,
        "lambda_dssim": 0.2,
        "sh_every": 1000,
        "densify_every": 100,
        "densify_from": 500,
        "densify_until": 15_000,
        "reset_every": 3000,
        "grow_grad": 2e-4,
        "grow_scale": 0.01,
        "prune_opacity": 0.005,
        "prune_scale": 0.1,
        "extent": 2.0,
    }
    got = {name: getattr(settings, name) for name in published}
    assert got == pytest.approx(published)
    short, usual = capture_fit._fit_config(capture_fit.Config(), 1.0), splat.FitConfig()
    for name in ("lr_means", "lr_scales", "lr_quats", "lr_sh", "lr_decay", "prune_scale"):
        assert getattr(short, name) == getattr(usual, name)


def test_a_killed_fit_ends_the_same(tmp_path, monkeypatch):
    whole = fit_capture(tmp_path / "whole", out=str(tmp_path / "a.ply"))
    save = capture_fit.save_checkpoint

    def die_after_two(folder, tree, *, step, keep):
        save(folder, tree, step=step, keep=keep)
        if step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(capture_fit, "save_checkpoint", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        fit_capture(tmp_path / "killed", out=str(tmp_path / "a.ply"))
    monkeypatch.setattr(capture_fit, "save_checkpoint", save)
    assert fit_capture(tmp_path / "killed", out=str(tmp_path / "a.ply")) == whole


@pytest.mark.slow
def test_posed_images_are_fitted(tmp_path):
    image = pytest.importorskip("PIL.Image")
    cameras = splat.orbit_cameras(4, 3.2, 12, 12)
    obj = splat.make_object(jax.random.key(0), "sphere", "flat")
    frames = []
    for n in range(4):
        view = jax.tree.map(lambda x, n=n: x[n], cameras)
        rgba = np.array(splat.trace_object(obj, view, 12, 12))
        rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
        image.fromarray(np.round(255 * np.clip(rgba, 0, 1)).astype(np.uint8)).save(
            tmp_path / f"{n}.png"
        )
        pose = np.linalg.inv(np.asarray(view.viewmat, float)) @ np.diag([1, -1, -1, 1])
        frames.append({"file_path": f"{n}", "transform_matrix": pose.tolist()})
    record = {"camera_angle_x": float(np.radians(50)), "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(record))
    claim = fit_capture(
        tmp_path / "run", format="transforms", capture=str(tmp_path), downscale=2, holdout=0
    )
    assert "4 training views" in claim.measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "video"}, "format must be one of transforms, colmap, object"),
        ({"capture": "box_fur"}, "capture is SHAPE_SURFACE of box, cylinder, sphere"),
        ({"out": "cloud.obj"}, "out must end with .ply or .splat, got cloud.obj"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"holdout": 1}, "holdout 1 leaves no image of 6 to fit"),
        ({"downscale": 13}, "downscale 13 leaves nothing of 12 x 12 pixels"),
    ],
)
def test_refuses_captures(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit_capture(tmp_path, **change)
