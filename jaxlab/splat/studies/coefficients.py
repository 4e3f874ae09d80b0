"""S3 to S6: what scales, rotations and opacities of fitted clouds say of a surface."""

import jax
import numpy as np

from jaxlab.runs import Claim, Run, holds, not_run, progress, spread
from jaxlab.splat import figures
from jaxlab.splat.geometry import cloud_statistics
from jaxlab.splat.rendering import render
from jaxlab.splat.studies import fitted
from jaxlab.splat.studies.ambiguity import not_asked
from jaxlab.splat.studies.tables import Table

_KINDS = (*fitted.KINDS, "mirror")
_SHOWN_VIEW = 7
_ENOUGH = 4  # objects of a kind, below which nothing is judged


def measure(config, run: Run, tables: dict[str, Table]) -> list[Claim]:
    """Rows on fitted boxes, with the figures of their views and statistics."""
    claims = [_surface_type(config, tables)]
    if config.experiment not in ("all", "fitted"):
        return claims + [_not_fitted(row, text) for row, text in _STATEMENTS.items()]
    results = {
        kind: [
            fitted.fitted(config, run, kind, n)
            for n in progress(range(_count(config, kind)), f"fit {kind}")
        ]
        for kind in _KINDS
    }
    statistics = {kind: _statistics(rows) for kind, rows in results.items()}
    run.figure("surface_statistics", figures.surface_statistics(statistics))
    run.figure("fitted_views", figures.fitted_views(*_shown(config, results)))
    claims += [_slender(statistics), _few(config, run), _transparent(statistics)]
    return claims


_STATEMENTS = {
    "S4": "Wire-like surfaces consist of many slender ellipsoids",
    "S5": "Flat surfaces consist of a few flat ellipsoids",
    "S6": "Opacity represents transparency",
}


def _not_fitted(row: str, statement: str) -> Claim:
    return not_run(row, statement, "Needs --experiment=fitted or all.")


def _count(config, kind: str) -> int:
    return (
        min(config.compared_objects, config.fit_objects) if kind == "mirror" else config.fit_objects
    )


def _statistics(results: list[dict]) -> dict[str, np.ndarray]:
    """Opacity-weighted statistics of each object, `[objects]` by name."""
    rows = [jax.device_get(cloud_statistics(fitted.cloud_of(result))) for result in results]
    return {name: np.array([getattr(row, name) for row in rows]) for name in rows[0]._fields}


def _shown(config, results: dict) -> tuple[dict, dict]:
    """Per kind the traced view, the rendered one and its PSNR; and the cloud and its camera."""
    number = min(_SHOWN_VIEW, config.fit_views - 1)
    camera = jax.tree.map(lambda x: x[number], fitted.cameras(config))
    views, clouds = {}, {}
    for kind, rows in results.items():
        cloud = fitted.cloud_of(rows[0])
        seen = render(
            cloud, camera, config.fit_size, config.fit_size, tile_capacity=len(cloud.means)
        )
        traced = fitted.views(config, kind, 0)[number, ..., :3]
        views[kind] = jax.device_get((traced, seen.rgb)), float(rows[0]["psnr"])
        clouds[kind] = cloud, jax.device_get(camera)
    return views, clouds


def _surface_type(config, tables: dict[str, Table]) -> Claim:
    statement = "Scale and rotation coefficients characterise the surface type"
    model = config.models[0]
    judged, told = [], []
    for name, table in tables.items():
        if name == "own":
            continue
        if (model, "psq") not in table.trials:
            return not_asked("S3", statement, "psq")
        with_frames, without = (table.accuracies(model, f) for f in ("psq", "p"))
        told.append(f"{name}: {spread(with_frames)} against {spread(without)} from positions")
        judged.append(
            with_frames.mean() >= 0.6 if name == "A" else with_frames.mean() - without.mean() >= 0.3
        )
    if not told:
        return not_run("S3", statement, "Needs data set A or B.")
    absent = [name for name in ("A", "B") if name not in tables]
    missing = f" Not measured here: {' and '.join(absent)}." if absent else ""
    return Claim(
        "S3",
        statement,
        "",
        "; ".join(told),
        holds(all(judged)),
        detail=f"{model}, positions with scales and rotations. Criterion: at least 0.60 on A "
        f"(bound 2/3), and 0.3 above positions on B.{missing}",
    )


def _slender(statistics: dict) -> Claim:
    flat, wire = statistics["flat"], statistics["wire"]
    ratio = wire["linearity"].mean() / flat["linearity"].mean()
    enough = len(flat["linearity"]) >= _ENOUGH
    verdict = holds(ratio >= 1.2 and wire["planarity"].mean() < flat["planarity"].mean())
    return Claim(
        "S4",
        _STATEMENTS["S4"],
        "",
        f"linearity {spread(wire['linearity'])} against {spread(flat['linearity'])} "
        f"({ratio:.2f}x), planarity {spread(wire['planarity'])} against "
        f"{spread(flat['planarity'])}",
        verdict if enough else "reported",
        detail="Fitted wire cages against plates with the same envelope, opacity-weighted, exact "
        f"tiles. Criterion: ratio of linearities >= 1.2 and lower planarity, from {_ENOUGH} "
        "objects a kind on. The factor was set after a first look at such data.",
    )


def _few(config, run: Run) -> Claim:
    if len(config.fit_counts) < 2:
        return not_run(
            "S5",
            _STATEMENTS["S5"],
            "Numbers of Gaussians are compared from the preset small on (--fit_counts).",
        )
    results = {
        kind: {
            count: [
                fitted.fitted(config, run, kind, n, count=count, texture=0.0)
                for n in progress(range(config.compared_objects), f"{count} Gaussians, {kind}")
            ]
            for count in config.fit_counts
        }
        for kind in ("flat", "wire")
    }
    run.figure("number_of_gaussians", figures.number_of_gaussians(results))

    def mean(kind: str, count: int, what: str) -> np.ndarray:
        return np.array([result[what] for result in results[kind][count]])

    few, many = sorted(config.fit_counts)[:2]
    plates, wires = mean("flat", few, "loss"), mean("wire", many, "loss")
    quality = "; ".join(
        f"{count}: {mean('flat', count, 'psnr').mean():.1f} against "
        f"{mean('wire', count, 'psnr').mean():.1f} dB"
        for count in config.fit_counts
    )
    return Claim(
        "S5",
        _STATEMENTS["S5"],
        "",
        f"plates with {few}: loss {spread(plates)}; wires with {many}: {spread(wires)}",
        holds(plates.mean() <= wires.mean()),
        detail=f"Plain plates and wire cages, {config.compared_objects} of each, mean of the last "
        f"20 training losses. PSNR of plates against wires: {quality}. Criterion: plates with "
        f"{few} reach the loss of wires with {many}. An image of thin wires also has more "
        "edges, which weigh on any loss.",
    )


def _transparent(statistics: dict) -> Claim:
    opacity = {kind: statistics[kind]["opacity"] for kind in _KINDS}
    ratio = opacity["glass"].mean() / opacity["flat"].mean()
    # The same boxes, where there are fewer mirrors.
    matte = opacity["flat"][: len(opacity["mirror"])]
    verdict = holds(ratio <= 0.4 and opacity["mirror"].mean() < matte.mean())
    return Claim(
        "S6",
        _STATEMENTS["S6"],
        "",
        f"glass {spread(opacity['glass'])}, mirror {spread(opacity['mirror'])}, matte "
        f"{spread(opacity['flat'])}",
        verdict if len(matte) >= _ENOUGH else "reported",
        detail=f"sum o^2 / sum o of fitted boxes; glass is {ratio:.2f} of matte. Criterion: glass "
        f"<= 0.4 of matte, mirror below matte, from {_ENOUGH} objects a kind on.",
    )
