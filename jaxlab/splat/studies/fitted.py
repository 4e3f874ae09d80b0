"""Data set B: ray-traced open boxes, fitted by the room's own renderer from equal points."""

import functools

import jax
import numpy as np

from jaxlab.runs import Run, progress, study_key
from jaxlab.splat.cameras import orbit_cameras
from jaxlab.splat.files import load_cloud_folder
from jaxlab.splat.fit_state import FitConfig
from jaxlab.splat.fitting import fit
from jaxlab.splat.objects import make_object, sample_surface
from jaxlab.splat.ply import write_ply
from jaxlab.splat.raytracing import trace_views
from jaxlab.splat.studies.trials import cls_config, train_once
from jaxlab.splat.types import Camera, CloudDataset, GaussianCloud

KINDS = ("flat", "wire", "glass")
_OBJECT, _FIT, _FOLDS, _TRAIN = 11, 12, 13, 14  # purposes of keys
_ORBIT = 3.2  # of the cameras; the objects reach to 1.35
_MIN_OPACITY = 0.02


@functools.lru_cache(maxsize=4)
def cameras(config) -> Camera:
    """The training views."""
    return orbit_cameras(config.fit_views, _ORBIT, config.fit_size, config.fit_size)


def views(config, surface: str, number: int, *, texture: float = 0.1) -> jax.Array:
    """Ray-traced images `[V, H, W, 4]` of one object; equal numbers have equal envelopes."""
    key = study_key(config, _OBJECT, number)
    obj = make_object(key, "box", surface, texture=texture)
    return trace_views(obj, cameras(config), config.fit_size, config.fit_size)


def fitted(config, run: Run, surface: str, number: int, *, count: int = 0, texture=0.1) -> dict:
    """One fit: the cloud's leaves, `losses`, `psnr`, and the mean of the last 20 losses.

    Every kind starts from the same points: those on the plates of its envelope.

    Args:
      config, run: of the experiment.
      surface, number: which object.
      count: Gaussians; by default the config's.
      texture: of its plates.
    """
    count = count or config.fit_gaussians
    name = f"gaussians_{surface}_{number}_{count}" + ("_plain" if texture == 0 else "")
    return run.once(name, lambda: _fit(config, surface, number, count, texture))


def _fit(config, surface: str, number: int, count: int, texture: float) -> dict:
    walls = make_object(study_key(config, _OBJECT, number), "box", "flat")
    point_key, fit_key = jax.random.split(study_key(config, _FIT, number))
    points = sample_surface(point_key, walls, count)
    settings = FitConfig(
        capacity=count,
        num_steps=config.fit_steps,
        densify_every=0,  # equal numbers of Gaussians for every kind
        tile_capacity=count,  # exact images
    )
    result = fit(
        fit_key,
        views(config, surface, number, texture=texture),
        cameras(config),
        points,
        np.full((count, 3), 0.5),
        settings,
    )
    return {
        **result.cloud._asdict(),
        "losses": result.losses,
        "psnr": result.psnr,
        "loss": result.losses[-20:].mean(),
    }


def cloud_of(result: dict) -> GaussianCloud:
    """The cloud of a stored fit."""
    return GaussianCloud(*(result[name] for name in GaussianCloud._fields))


def fits(config, run: Run, surface: str) -> list[dict]:
    """The fits of all objects of one kind."""
    numbers = progress(range(config.fit_objects), f"fit {surface}")
    return [fitted(config, run, surface, number) for number in numbers]


def dataset(config, run: Run) -> CloudDataset:
    """The fitted clouds, written as `artifacts/clouds/<kind>/<number>.ply` and read from there."""
    root = run.workdir / "artifacts" / "clouds"
    for surface in KINDS:
        (root / surface).mkdir(parents=True, exist_ok=True)
        for number, result in enumerate(fits(config, run, surface)):
            write_ply(root / surface / f"{number:03d}.ply", cloud_of(result))
    return load_cloud_folder(
        root, num_points=config.fitted_points, min_opacity=_MIN_OPACITY, seed=config.seed
    )


def trial(config, run: Run, data: CloudDataset, model: str, features: str, seed: int) -> dict:
    """Scores of every object by the one of two networks that did not see it in training.

    The two folds hold every second object of each kind, drawn anew for each seed.
    """
    order = np.asarray(jax.random.permutation(study_key(config, _FOLDS, seed), config.fit_objects))
    fold = np.empty(config.fit_objects, int)
    fold[order] = np.arange(config.fit_objects) % 2
    held = np.tile(fold, len(data.class_names))  # one object number is in one fold for all kinds
    parts = [
        train_once(
            run,
            f"fitted_{model}_{features}_{seed}_{number}",
            study_key(config, _TRAIN, seed, number),
            _rows(data, held != number),
            _rows(data, held == number),
            cls_config(config, model, config.fitted_steps),
            features,
        )
        for number in range(2)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def trials(config, run: Run, data: CloudDataset, model: str, features: str) -> list[dict]:
    """One two-fold trial a seed."""
    seeds = progress(range(config.num_seeds), f"fitted {model} {features}")
    return [trial(config, run, data, model, features, seed) for seed in seeds]


def _rows(data: CloudDataset, chosen: np.ndarray) -> CloudDataset:
    cloud = jax.tree.map(lambda x: np.asarray(x)[chosen], data.cloud)
    return CloudDataset(cloud, np.asarray(data.labels)[chosen], data.class_names)
