"""Fits a cloud to a capture and writes it as a file: the experiment behind `splat_fit`."""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.runs import (
    Claim,
    Run,
    check_choices,
    check_finite,
    check_least,
    latest_step,
    option,
    progress,
    restore_checkpoint,
    save_checkpoint,
)
from jaxlab.splat import figures
from jaxlab.splat.cameras import orbit_cameras
from jaxlab.splat.captures import load_transforms, read_image, stack_images
from jaxlab.splat.colmap import load_colmap
from jaxlab.splat.fit_state import FitConfig, init_fit_state
from jaxlab.splat.fitting import check_views, finish_fit, run_fit
from jaxlab.splat.initialization import init_cloud
from jaxlab.splat.losses import psnr
from jaxlab.splat.objects import SHAPES, SURFACES, make_object, sample_surface
from jaxlab.splat.ply import write_ply
from jaxlab.splat.raytracing import trace_views
from jaxlab.splat.rendering import render
from jaxlab.splat.splat_file import write_splat
from jaxlab.splat.types import Camera
from jaxlab.splat.viewer import write_viewer

_ORBIT = 3.2
_CUBE = 1.3  # half edge of the cube around a synthetic scene
_ASPECT_TOLERANCE = 0.02
_WRITERS = {".ply": write_ply, ".splat": write_splat}


@dataclasses.dataclass(frozen=True)
class Config:
    """Which capture, and how it is fitted."""

    seed: int = option(0, "seed of everything that is drawn")
    capture: str = option(
        "box_flat", "folder or transforms.json; with --format=object, SHAPE_SURFACE to generate"
    )
    format: str = option(
        "object", "what the capture is", choices=("transforms", "colmap", "object")
    )
    out: str | None = option(None, "the .ply or .splat to write; by default in the workdir")
    images: str = option("images", "folder of a COLMAP capture's images, inside it")
    downscale: int = option(1, "images are averaged over squares of so many pixels")
    holdout: int = option(8, "every so-manieth image is kept for testing; 0 keeps none")
    size: int = option(48, "pixels along a side of a generated object's images")
    views: int = option(24, "images of a generated object")
    points: int = option(400, "Gaussians to start with, where the capture brings no points")
    capacity: int = option(800, "most Gaussians")
    steps: int = option(600, "optimizer steps")
    sh_degree: int = option(0, "bands of the colour, 0 to 3")
    lr_means: float = option(2e-3, "first learning rate of the positions, in extents")
    lr_scales: float = option(1e-2, "first learning rate of the log scales")
    lr_quats: float = option(5e-3, "first learning rate of the quaternions")
    lr_sh: float = option(2e-2, "first learning rate of the first band; the others have 1/20")
    lr_decay: float = option(0.3, "factor that all rates but the positions' end with")
    random_background: bool = option(True, "random colours behind objects with alpha")
    strategy: str = option(
        "default", "how Gaussians are added or moved", choices=("default", "mcmc")
    )
    densify_every: int = option(100, "steps between densifications; 0 never")
    reset_every: int = option(0, "steps between resets of the opacity; 0 never")
    prune_scale: float = option(
        0.0, "extents above which a Gaussian is removed, from the first reset on; 0 keeps all"
    )
    tile_capacity: int = option(256, "Gaussians that a tile of 8 x 8 pixels can show")
    checkpoint_every: int = option(200, "steps between checkpoints")


PRESETS = {
    "smoke": Config(size=24, views=12, points=100, capacity=200, steps=150, densify_every=50),
    "small": Config(),
    "paper": Config(
        points=100_000,
        capacity=500_000,
        steps=30_000,
        sh_degree=3,
        lr_means=1.6e-4,
        lr_scales=5e-3,
        lr_quats=1e-3,
        lr_sh=2.5e-3,
        lr_decay=1.0,
        reset_every=3000,
        prune_scale=0.1,
        tile_capacity=1024,
        checkpoint_every=1000,
        size=256,
        views=100,
    ),
}


class Scene(NamedTuple):
    """Posed images, where Gaussians start, and the size of it all."""

    images: np.ndarray  # [V, H, W, 4] premultiplied
    cameras: Camera
    points: np.ndarray
    colors: np.ndarray
    extent: float


def run(config: Config, run: Run) -> list[Claim]:
    """Fits the capture, from its last checkpoint if there is one, and writes the cloud.

    Raises:
      ValueError: settings or a capture that make no sense.
      FileNotFoundError: no such capture.
    """
    check_choices(config)
    out = Path(config.out or run.workdir / "artifacts" / "cloud.ply")
    if out.suffix not in _WRITERS:
        raise ValueError(f"out must end with {' or '.join(_WRITERS)}, got {out}")
    check_least(config, dict.fromkeys(("steps", "checkpoint_every", "downscale"), 1))
    scene = _shrink(_LOADERS[config.format](config), config.downscale)
    images = check_views(scene.images, scene.cameras)
    index = np.arange(len(images))
    tested = index % config.holdout == 0 if config.holdout else np.zeros(len(index), bool)
    if tested.all():
        raise ValueError(f"holdout {config.holdout} leaves no image of {len(index)} to fit")
    fitted, cameras = jax.tree.map(lambda x: x[~tested], (images, scene.cameras))
    settings = _fit_config(config, scene.extent)
    state = init_fit_state(
        *init_cloud(scene.points, scene.colors, settings.capacity, sh_degree=config.sh_degree)
    )
    state, losses = _fit(config, run, fitted, cameras, state, settings)
    result = finish_fit(state, losses, fitted, cameras, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[out.suffix](out, result.cloud)
    (run.workdir / "artifacts").mkdir(exist_ok=True)
    write_viewer(run.workdir / "artifacts" / "viewer.html", result.cloud)
    shown = np.flatnonzero(tested if tested.any() else ~tested)
    seen = [_render(result.cloud, scene.cameras, n, images.shape, settings) for n in shown]
    quality = [float(psnr(rgb, images[n, ..., :3])) for n, rgb in zip(shown, seen, strict=True)]
    run.figure(
        "views", figures.fit_against_capture(np.asarray(images[shown[:4], ..., :3]), seen[:4])
    )
    run.figure("losses", figures.fit_losses(result.losses))
    return run.write_claims([_claim(config, result, quality, bool(tested.any()), out)])


def _claim(config: Config, result, quality: list[float], held_out: bool, out: Path) -> Claim:
    views = "held-out" if held_out else "training"
    return Claim(
        "fit",
        f"The capture {config.capture} is fitted",
        "",
        f"{np.mean(quality):.2f} dB on {len(quality)} {views} views, {result.psnr:.2f} dB on the "
        f"training views, {result.num_alive} Gaussians",
        "reported",
        detail=f"{config.steps} steps; written to {out}, and a page to look at it beside the run.",
    )


def _fit(config: Config, run: Run, images, cameras, state, settings: FitConfig):
    """The scan in parts, with a checkpoint after each."""
    folder, key = run.checkpoint_dir("fit"), jax.random.fold_in(jax.random.key(config.seed), 0)
    losses = np.full(config.steps, np.nan, np.float32)
    if latest_step(folder) is not None:
        state, losses = restore_checkpoint(folder, (state, losses))
        losses = np.array(losses)
    done = int(state.step)
    ends = [*range(0, config.steps, config.checkpoint_every), config.steps]
    for end in progress([end for end in ends if end > done], "fit"):
        state, part = run_fit(key, images, cameras, state, settings, num_steps=end - done)
        losses[done:end] = part
        check_finite(end, {"loss": np.mean(part)}, folder)
        run.log(end, loss=float(np.mean(part)), gaussians=int(state.alive.sum()))
        save_checkpoint(folder, (state, losses), step=end, keep=1)
        done = end
    return state, losses


def _fit_config(config: Config, extent: float) -> FitConfig:
    return FitConfig(
        capacity=config.capacity,
        num_steps=config.steps,
        sh_degree=config.sh_degree,
        sh_every=config.steps // 30,
        lr_means=config.lr_means,
        lr_means_final=config.lr_means / 100,
        lr_scales=config.lr_scales,
        lr_quats=config.lr_quats,
        lr_sh=config.lr_sh,
        lr_decay=config.lr_decay,
        strategy=config.strategy,
        densify_every=config.densify_every,
        densify_from=max(config.steps // 60, config.densify_every),
        densify_until=config.steps // 2,
        reset_every=config.reset_every,
        prune_scale=config.prune_scale,
        random_background=config.random_background,
        extent=extent,
        tile_capacity=config.tile_capacity,
    )


def _render(cloud, cameras: Camera, number, shape, settings: FitConfig) -> np.ndarray:
    height, width = shape[1:3]
    camera = jax.tree.map(lambda x: jnp.asarray(x[number]), cameras)
    return np.asarray(
        render(cloud, camera, width, height, tile_capacity=settings.tile_capacity).rgb
    )


def _load_object(config: Config) -> Scene:
    shape, _, surface = config.capture.partition("_")
    if shape not in SHAPES or surface not in SURFACES:
        raise ValueError(
            f"with --format=object, capture is SHAPE_SURFACE of {', '.join(SHAPES)} and "
            f"{', '.join(SURFACES)}, got {config.capture!r}"
        )
    object_key, point_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1))
    obj = make_object(object_key, shape, surface)
    cameras = orbit_cameras(config.views, _ORBIT, config.size, config.size)
    points = np.asarray(sample_surface(point_key, obj, config.points))
    images = trace_views(obj, cameras, config.size, config.size)
    return Scene(np.asarray(images), cameras, points, np.full_like(points, 0.5), 1.0)


def _load_transforms(config: Config) -> Scene:
    capture = load_transforms(config.capture)
    rng = np.random.default_rng(config.seed)
    points = rng.uniform(-_CUBE, _CUBE, (config.points, 3))
    extent = _extent(capture.cameras)
    return Scene(capture.images, capture.cameras, points, np.full_like(points, 0.5), extent)


def _load_colmap(config: Config) -> Scene:
    root = Path(config.capture)
    candidates = [root / "sparse" / "0", root / "sparse", root]
    model = load_colmap(next((c for c in candidates if c.is_dir()), root))
    paths = [root / config.images / name for name in model.names]
    images = stack_images([read_image(path) for path in paths], list(model.names))
    # A folder such as images_4 has the views at another size than COLMAP saw.
    scale = np.array(images.shape[2:0:-1]) / np.stack([model.widths, model.heights], 1)
    if (np.abs(scale[:, 0] / scale[:, 1] - 1) > _ASPECT_TOLERANCE).any():
        raise ValueError(
            f"images of {images.shape[2]} x {images.shape[1]} pixels have another aspect than "
            f"cameras of {model.widths[0]} x {model.heights[0]}"
        )
    scale = np.concatenate([scale, np.ones((len(scale), 1))], 1)
    cameras = Camera(model.cameras.viewmat, model.cameras.K * scale[:, :, None])
    return Scene(images, cameras, model.points, model.colors, _extent(cameras))


_LOADERS = {"object": _load_object, "transforms": _load_transforms, "colmap": _load_colmap}


def _extent(cameras: Camera) -> float:
    """1.1 times the largest distance of a camera from their centre, as the reference has it."""
    viewmats = np.asarray(cameras.viewmat)
    eyes = -np.einsum("vji,vj->vi", viewmats[:, :3, :3], viewmats[:, :3, 3])
    reach = np.linalg.norm(eyes - eyes.mean(0), axis=1).max()
    return 1.1 * float(reach) if reach > 0 else 1.0


def _shrink(scene: Scene, factor: int) -> Scene:
    """Images averaged over squares of `factor` pixels; what does not fill one is cut off."""
    if factor == 1:
        return scene
    count, height, width = scene.images.shape[:3]
    rows, columns = math.floor(height / factor), math.floor(width / factor)
    if not rows or not columns:
        raise ValueError(f"downscale {factor} leaves nothing of {width} x {height} pixels")
    cut = scene.images[:, : rows * factor, : columns * factor]
    images = cut.reshape(count, rows, factor, columns, factor, 4).mean((2, 4))
    scale = np.array([1 / factor, 1 / factor, 1])[:, None]
    cameras = Camera(scene.cameras.viewmat, np.asarray(scene.cameras.K) * scale)
    return scene._replace(images=images, cameras=cameras)
