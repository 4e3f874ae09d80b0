"""A folder of clouds: S8, and the user's own files as a third data set."""

import functools

import jax
import numpy as np

from jaxlab.runs import Claim, Run, digest, holds, progress, study_key
from jaxlab.splat.files import load_cloud_folder
from jaxlab.splat.ply import write_ply
from jaxlab.splat.studies import analytic
from jaxlab.splat.studies.trials import cls_config, train_once
from jaxlab.splat.types import CloudDataset

_SPLIT, _TRAIN = 21, 22  # purposes of keys
_WRITTEN = 2  # objects a class of the generated folder
_TEST_SHARE = 0.2

STATEMENT = "The first real-world Gaussian-splat point cloud dataset: 20 categories x 200"


def measure(config, run: Run) -> list[Claim]:
    """Counts and names of the user's folder, or of a generated one with the same layout."""
    if config.cloud_root:
        data = dataset(config)
        return [
            Claim(
                "S8",
                STATEMENT,
                "20 x 200",
                f"{len(data.class_names)} classes, {len(data.labels)} objects",
                "reported",
                detail=f"{config.cloud_root}: {', '.join(data.class_names)}.",
            )
        ]
    written = analytic.dataset(config, 0, 0)
    root = run.workdir / "artifacts" / "analytic_clouds"
    for label, name in enumerate(written.class_names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(np.flatnonzero(written.labels == label)[:_WRITTEN]):
            cloud = jax.tree.map(lambda x, row=row: x[row], written.cloud)
            write_ply(root / name / f"{number:03d}.ply", cloud)
    read = load_cloud_folder(root, num_points=config.num_points, min_opacity=0.0)
    names = tuple(sorted(written.class_names))
    right = read.class_names == names and np.bincount(read.labels).tolist() == [_WRITTEN] * 9
    return [
        Claim(
            "S8",
            STATEMENT,
            "20 x 200",
            f"{len(read.class_names)} classes x {_WRITTEN} objects written and read",
            holds(right),
            detail="A generated folder <class>/<object>.ply with the same layout; the data set "
            "itself is not public. Criterion: counts and class names are right. Own files: "
            "--cloud_root.",
        )
    ]


@functools.lru_cache(maxsize=1)
def dataset(config) -> CloudDataset:
    """The user's clouds, normalised and sampled."""
    return load_cloud_folder(config.cloud_root, num_points=config.num_points, seed=config.seed)


@functools.lru_cache(maxsize=1)
def _content(config) -> str:
    return digest(dataset(config))


def trials(config, run: Run, model: str, features: str) -> list[dict]:
    """One training a seed, on 80% of each class, tested on the rest."""
    return [
        _trial(config, run, model, features, seed)
        for seed in progress(range(config.num_seeds), f"own clouds {model} {features}")
    ]


def _trial(config, run: Run, model: str, features: str, seed: int) -> dict:
    data = dataset(config)
    rng = np.random.default_rng((config.seed, _SPLIT, seed))
    test = np.zeros(len(data.labels), bool)
    for label, name in enumerate(data.class_names):
        rows = rng.permutation(np.flatnonzero(data.labels == label))
        if len(rows) < 2:
            raise ValueError(f"class {name} has {len(rows)} object; a split needs at least 2")
        test[rows[: max(round(_TEST_SHARE * len(rows)), 1)]] = True

    def rows_of(chosen: np.ndarray) -> CloudDataset:
        cloud = jax.tree.map(lambda x: x[chosen], data.cloud)
        return CloudDataset(cloud, data.labels[chosen], data.class_names)

    return train_once(
        run,
        f"own_{model}_{features}_{seed}_{_content(config)}",
        study_key(config, _TRAIN, seed),
        rows_of(~test),
        rows_of(test),
        cls_config(config, model, config.steps),
        features,
        config.checkpoint_every,
    )
