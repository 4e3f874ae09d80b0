"""Figures of the studies, from their stored results."""

import jax
import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from jaxlab.runs.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    styled,
    subplots,
)
from jaxlab.splat.ambiguous import SHAPES, SURFACES
from jaxlab.splat.geometry import covariance
from jaxlab.splat.harmonics import C0
from jaxlab.splat.projection import project_gaussians
from jaxlab.splat.types import Camera, GaussianCloud

_SURFACE_COLORS = {"flat": BLUE, "wire": VERMILION, "glass": SKY, "mirror": PURPLE}
_BOUNDS = {"p": 1 / 3, "po": 2 / 3, "psq": 2 / 3, "posq": 1.0}
_DATA_COLORS = {"A": BLUE, "B": ORANGE, "own": GREEN}


@styled
def ablation(model: str, feature_sets: tuple[str, ...], tables: dict) -> Figure:
    """Accuracy by features, a group of bars each, with the bounds of data set A."""
    figure, axes = subplots(width=6.4, height=3.2)
    width = 0.8 / len(tables)
    for number, (name, table) in enumerate(tables.items()):
        where = np.arange(len(feature_sets)) + (number - (len(tables) - 1) / 2) * width
        rows = np.array([table.accuracies(model, features) for features in feature_sets])
        axes.bar(
            where,
            rows.mean(1),
            0.92 * width,
            color=_DATA_COLORS[name],
            label=table.title,
            alpha=0.8,
        )
        axes.plot(where[:, None] + 0 * rows, rows, ".", color=BLACK, markersize=3)
        if name == "A":
            known = [i for i, features in enumerate(feature_sets) if features in _BOUNDS]
            axes.hlines(
                [_BOUNDS[feature_sets[i]] for i in known],
                where[known] - width / 2,
                where[known] + width / 2,
                color=VERMILION,
                label="best possible on A",
            )
    axes.set_xticks(range(len(feature_sets)), feature_sets)
    axes.set(xlabel="features the network sees", ylabel="overall accuracy", ylim=(0, 1.25))
    axes.set_title(f"What {model} can tell (dots: seeds)")
    axes.grid(axis="x", visible=False)
    axes.legend(ncols=3, loc="upper left")
    return figure


@styled
def backbones(models: tuple[str, ...], tables: dict) -> Figure:
    """Accuracy from positions and from all features, an arrow for each backbone."""
    figure, panels = subplots(
        1, len(tables), width=1.2 + 3.6 * len(tables), height=1.2 + 0.3 * len(models), squeeze=False
    )
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        for row, model in enumerate(models):
            before, after = (table.accuracies(model, features) for features in ("p", "posq"))
            axes.plot([before.mean(), after.mean()], [row, row], color=GREY, linewidth=1)
            for values, color in ((before, GREY), (after, _DATA_COLORS[name])):
                std = values.std(ddof=1) if len(values) > 1 else 0
                axes.errorbar(values.mean(), row, xerr=std, fmt="o", color=color, capsize=3)
        axes.set_yticks(range(len(models)), models)
        axes.set(xlabel="overall accuracy", xlim=(0, 1.05), ylim=(len(models) - 0.5, -0.5))
        axes.set_title(f"{table.title}: positions to all features")
        axes.grid(axis="y", visible=False)
    return figure


@styled
def confusion(probabilities: dict[str, np.ndarray]) -> Figure:
    """Mean predicted probabilities by true class, from positions and from all features."""
    titles = {"p": "positions only", "posq": "all features"}
    figure, panels = subplots(1, 2, width=8.4, height=3.9)
    names = [f"{shape} {surface}" for shape in SHAPES for surface in SURFACES]
    for axes, (features, matrix) in zip(panels, probabilities.items(), strict=True):
        image = axes.imshow(matrix, vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [])
        axes.set(xlabel="predicted", title=titles[features])
        axes.grid(visible=False)
    panels[0].set(ylabel="true class")
    figure.colorbar(image, ax=panels, shrink=0.75, label="mean predicted probability")
    return figure


@styled
def embedding(planes: dict[str, np.ndarray], labels: np.ndarray) -> Figure:
    """t-SNE of the global feature: colour tells the surface, the marker the shape."""
    titles = {"p": "positions only", "posq": "all features"}
    figure, panels = subplots(1, 2, width=8.0, height=3.6)
    for axes, (features, plane) in zip(panels, planes.items(), strict=True):
        for index, surface in enumerate(SURFACES):
            for marker, shape in zip("so^", range(len(SHAPES)), strict=True):
                chosen = labels == shape * len(SURFACES) + index
                axes.plot(
                    *plane[chosen].T,
                    marker,
                    color=_SURFACE_COLORS[surface],
                    markersize=3.5,
                    alpha=0.7,
                    label=f"{SHAPES[shape]} {surface}",
                )
        axes.set(title=f"Global feature, {titles[features]}", xticks=[], yticks=[])
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def surface_statistics(statistics: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Linearity, planarity and opacity of fitted objects, a column of dots for each surface."""
    names = ("linearity", "planarity", "opacity")
    figure, panels = subplots(1, 3, width=8.4, height=2.9)
    for axes, name in zip(panels, names, strict=True):
        for column, (kind, values) in enumerate(statistics.items()):
            spots = values[name]
            shift = 0.3 * (np.arange(len(spots)) / max(len(spots) - 1, 1) - 0.5)
            axes.plot(
                column + shift,
                spots,
                "o",
                color=_SURFACE_COLORS[kind],
                markersize=3,
                alpha=0.7,
            )
            axes.hlines(spots.mean(), column - 0.3, column + 0.3, color=BLACK)
        axes.set_xticks(range(len(statistics)), statistics)
        axes.set(
            title=f"Opacity-weighted {name}" if name != "opacity" else "Opacity", ylim=(0, None)
        )
        axes.grid(axis="x", visible=False)
    panels[0].set(ylabel="one dot an object")
    return figure


@styled
def fitted_views(views: dict[str, tuple], clouds: dict[str, tuple]) -> Figure:
    """A column for each surface: ray-traced view, rendering of the fit, and its ellipsoids."""
    figure, panels = subplots(3, len(views), width=2.1 * len(views), height=6.4, squeeze=False)
    for column, (kind, ((traced, rendered), psnr)) in enumerate(views.items()):
        cloud, camera = clouds[kind]
        size = traced.shape[0]
        for row, image in enumerate((traced, rendered)):
            panels[row, column].imshow(
                np.clip(image, 0, 1), extent=(0, size, size, 0), interpolation="nearest"
            )
        draw_ellipsoids(panels[2, column], cloud, camera, size, size)
        panels[0, column].set_title(f"{kind}: ray-traced")
        panels[1, column].set_title(f"rendered, {psnr:.1f} dB")
        panels[2, column].set_title("its Gaussians (1 sd)")
        for axes in panels[:, column]:
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
    return figure


def draw_ellipsoids(axes, cloud: GaussianCloud, camera: Camera, width: int, height: int) -> None:
    """The outlines of a cloud's Gaussians at one standard deviation, as opaque as they are.

    Args:
      axes: matplotlib axes.
      cloud: one cloud.
      camera: one camera.
      width, height: of its image in pixels.
    """
    covs = covariance(cloud.log_scales, cloud.quats)
    seen = jax.device_get(project_gaussians(cloud.means, covs, *camera, width, height, eps2d=0.0))
    order = np.argsort(-seen.depths)
    order = order[seen.valid[order]]
    squares, axes_of = np.linalg.eigh(seen.cov2d[order])
    lengths = 2 * np.sqrt(np.maximum(squares, 1e-6))
    angles = np.degrees(np.arctan2(axes_of[:, 1, 1], axes_of[:, 0, 1]))
    colors = np.clip(0.5 + C0 * np.asarray(cloud.sh)[order, 0], 0, 1)
    opacity = 1 / (1 + np.exp(-np.asarray(cloud.opacity_logits)[order]))
    axes.add_collection(
        EllipseCollection(
            lengths[:, 1],
            lengths[:, 0],
            angles,
            units="xy",
            offsets=seen.means2d[order],
            offset_transform=axes.transData,
            facecolors=np.concatenate([colors, opacity[:, None]], 1),
            edgecolors=(0.2, 0.2, 0.2, 0.35),
            linewidths=0.3,
        )
    )
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", facecolor="0.97")


@styled
def number_of_gaussians(results: dict[str, dict[int, list[dict]]]) -> Figure:
    """Loss and PSNR over the number of Gaussians, plates against wires."""
    figure, (left, right) = subplots(1, 2, width=7.2, height=3.0)
    labels = {"flat": "plain plates", "wire": "wire cages"}
    for kind, by_count in results.items():
        counts = list(by_count)
        for axes, what in ((left, "loss"), (right, "psnr")):
            rows = np.array([[float(r[what]) for r in by_count[count]] for count in counts])
            axes.errorbar(
                counts,
                rows.mean(1),
                rows.std(1),
                fmt="o-",
                color=_SURFACE_COLORS[kind],
                capsize=3,
                label=labels[kind],
            )
    for axes in (left, right):
        axes.set(xlabel="Gaussians", xscale="log")
        axes.set_xticks(counts, map(str, counts))
        axes.minorticks_off()
    left.set(ylabel="training loss", title="What is left after the fit")
    right.set(ylabel="PSNR [dB]", title="Quality of the views")
    left.legend()
    return figure


@styled
def fit_against_capture(images: np.ndarray, rendered: list[np.ndarray]) -> Figure:
    """Images of a capture above what the fitted cloud shows from there."""
    figure, panels = subplots(
        2, len(rendered), width=2.2 * len(rendered), height=4.4, squeeze=False
    )
    for column, pair in enumerate(zip(images, rendered, strict=True)):
        for row, image in enumerate(pair):
            panels[row, column].imshow(np.clip(image, 0, 1), interpolation="nearest")
            panels[row, column].set(xticks=[], yticks=[])
            panels[row, column].grid(visible=False)
    panels[0, 0].set(ylabel="capture")
    panels[1, 0].set(ylabel="fit")
    return figure


@styled
def fit_losses(losses: np.ndarray) -> Figure:
    """Training losses, a point a step, and their running mean."""
    figure, axes = subplots(width=5.2, height=3.0)
    axes.plot(losses, ".", color=GREY, markersize=1.5, alpha=0.5)
    window = max(len(losses) // 20, 1)
    smooth = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(np.arange(len(smooth)) + window / 2, smooth, color=BLUE)
    axes.set(xlabel="step", ylabel="photometric loss", yscale="log")
    return figure
