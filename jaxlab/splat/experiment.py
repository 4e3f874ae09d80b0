"""Claims of the paper on classification from Gaussian splats, measured: `run(config, run)`."""

import dataclasses

from jaxlab.runs import Claim, Run, check_choices, check_least, claim_order, not_run, option
from jaxlab.splat.backbones import CLASSIFIERS, SIZES
from jaxlab.splat.features import ordered_letters
from jaxlab.splat.studies import ambiguity, coefficients, folder, gains, separation, tables


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments, and the user's own clouds."""

    experiment: str = option("all", "which data", choices=("all", "analytic", "fitted", "folder"))
    seed: int = option(0, "seed of everything that is drawn")
    num_seeds: int = option(3, "data sets and trainings over which accuracies are averaged")
    feature_sets: tuple[str, ...] = option(
        ("p", "po", "psq", "posq"), "letters of the features that a network sees"
    )
    models: tuple[str, ...] = option(tuple(CLASSIFIERS), "backbones")
    size: str = option("tiny", "widths of the backbones", choices=SIZES)
    objects_per_class: int = option(30, "analytic objects a class, in training and in test")
    num_points: int = option(96, "Gaussians of an analytic object, or of one in cloud_root")
    steps: int = option(200, "optimizer steps on analytic objects, or on those of cloud_root")
    batch_size: int = option(32, "objects a step of a tiny backbone, over all devices")
    lr: float = option(2e-3, "largest learning rate of a tiny one (paper size: the recipe)")
    weight_decay: float = option(1e-4, "decoupled weight decay of a tiny one")
    label_smoothing: float = option(0.0, "share of a tiny one's target spread over all classes")
    checkpoint_every: int = option(0, "steps between checkpoints of a training; 0 makes none")
    fit_objects: int = option(20, "boxes of each kind that are fitted")
    fit_size: int = option(32, "pixels along a side of their images")
    fit_views: int = option(20, "images of each")
    fit_gaussians: int = option(256, "Gaussians of each fit")
    fit_steps: int = option(300, "optimizer steps of each fit")
    fit_counts: tuple[int, ...] = option(
        (64, 400), "numbers of Gaussians compared; S5 judges the two smallest"
    )
    compared_objects: int = option(6, "boxes of each kind in that comparison, and mirrors")
    fitted_points: int = option(96, "Gaussians that a classifier sees of a fitted box")
    fitted_steps: int = option(120, "optimizer steps on fitted boxes")
    cloud_root: str | None = option(None, "own clouds: cloud_root/<class>/<object>.ply")


PRESETS = {
    "smoke": Config(
        num_seeds=2,
        models=("pointnet",),
        steps=150,
        fit_objects=1,
        fit_size=24,
        fit_gaussians=128,
        fit_steps=150,
        fit_counts=(),
    ),
    "small": Config(),
    "paper": Config(
        size="paper",
        objects_per_class=200,
        num_points=1024,
        steps=20_000,
        checkpoint_every=1000,
        fit_objects=200,
        fit_size=128,
        fit_views=60,
        fit_gaussians=4096,
        fit_steps=3000,
        fit_counts=(64, 400, 1600),
        compared_objects=20,
        fitted_points=1024,
        fitted_steps=5000,
    ),
}

_COUNTS = (
    "num_seeds",
    "objects_per_class",
    "steps",
    "batch_size",
    "fit_objects",
    "fit_size",
    "fit_views",
    "fit_steps",
    "compared_objects",
    "fitted_points",
    "fitted_steps",
)
_FEWEST_POINTS = 32  # of the tiny backbones
_NEEDED = ("p", "posq")
_ON_ANALYTIC = ambiguity.STATEMENTS | separation.STATEMENTS | gains.CONTROLS


def run(config: Config, run: Run) -> list[Claim]:
    """Measures every row and writes the claims; rows of data that is not asked for are not run.

    Raises:
      ValueError: settings that make no sense, or a file that is no splat.
      FileNotFoundError: no such folder.
    """
    _check(config)
    measured = tables.measure(config, run)
    claims = []
    if "A" in measured:
        claims += ambiguity.measure(config, run, measured["A"])
        claims += separation.measure(config, run, measured["A"])
        claims += gains.controls(config, run)
    else:
        reason = "Needs --experiment=analytic or all."
        claims += [not_run(row, text, reason) for row, text in _ON_ANALYTIC.items()]
    if "A" in measured or config.cloud_root:
        claims += folder.measure(config, run)
    else:
        reason = "Needs --experiment=analytic or all, or --cloud_root."
        claims.append(not_run("S8", folder.STATEMENT, reason, paper="20 x 200"))
    claims += coefficients.measure(config, run, measured)
    claims += gains.measure(config, run, measured)
    return run.write_claims(sorted(claims, key=claim_order))


def _check(config: Config) -> None:
    check_choices(config)
    check_least(config, dict.fromkeys(_COUNTS, 1))
    check_least(config, dict.fromkeys(("num_points", "fitted_points"), _FEWEST_POINTS))
    if config.fit_gaussians < 4 or any(count < 4 for count in config.fit_counts):
        raise ValueError(
            f"fits need at least 4 Gaussians, got {config.fit_gaussians} and {config.fit_counts}"
        )
    unknown = [model for model in config.models if model not in CLASSIFIERS]
    if unknown or not config.models:
        raise ValueError(f"models must be some of {', '.join(CLASSIFIERS)}, got {config.models}")
    for features in config.feature_sets:
        if "c" in ordered_letters(features):
            raise ValueError(f"feature_sets: the experiments use p, o, s and q, got {features!r}")
    missing = [features for features in _NEEDED if features not in config.feature_sets]
    if missing:
        raise ValueError(
            f"feature_sets must hold {' and '.join(_NEEDED)}, got {config.feature_sets}"
        )
    if config.experiment == "folder" and not config.cloud_root:
        raise ValueError("the experiment folder needs --cloud_root")
