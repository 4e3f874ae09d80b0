"""Data set A: analytic clouds, where the best possible accuracies are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.runs import Run, progress, study_key
from jaxlab.splat.ambiguous import SHAPES, SURFACES, sample_ambiguous_clouds
from jaxlab.splat.studies.trials import cls_config, train_once
from jaxlab.splat.types import CloudDataset

_DATA, _TRAIN, _CONTROL = 1, 2, 3  # purposes of keys


@functools.lru_cache(maxsize=8)
def dataset(config, seed: int, part: int) -> CloudDataset:
    """The training (0) or test (1) set of one seed, NumPy arrays."""
    drawn = sample_ambiguous_clouds(
        study_key(config, _DATA, seed, part),
        objects_per_class=config.objects_per_class,
        num_points=config.num_points,
    )
    cloud, labels = jax.device_get((drawn.cloud, drawn.labels))
    return CloudDataset(cloud, labels, drawn.class_names)


def trial(config, run: Run, model: str, features: str, seed: int) -> dict:
    """One classifier on fresh data."""
    return train_once(
        run,
        f"analytic_{model}_{features}_{seed}",
        study_key(config, _TRAIN, seed),
        dataset(config, seed, 0),
        dataset(config, seed, 1),
        cls_config(config, model, config.steps),
        features,
        config.checkpoint_every,
    )


def trials(config, run: Run, model: str, features: str) -> list[dict]:
    """One trial a seed."""
    seeds = progress(range(config.num_seeds), f"{model} {features}")
    return [trial(config, run, model, features, seed) for seed in seeds]


def recalls(result: dict) -> tuple[float, float]:
    """Accuracy of the shape and of the surface among a trial's predictions."""
    predicted, labels = result["logits"].argmax(-1), result["labels"]
    surfaces = len(SURFACES)
    shape = np.mean(predicted // surfaces == labels // surfaces)
    return float(shape), float(np.mean(predicted % surfaces == labels % surfaces))


def pair_accuracy(result: dict, first: str, second: str) -> float:
    """Accuracy between two surfaces of the objects that have one of them, the shape summed out."""
    pair = [SURFACES.index(first), SURFACES.index(second)]
    logits = result["logits"].reshape(-1, len(SHAPES), len(SURFACES))
    score = np.logaddexp.reduce(logits[:, :, pair], 1)  # log-sum over shapes
    surface = result["labels"] % len(SURFACES)
    shown = np.isin(surface, pair)
    return float(np.mean(score[shown].argmax(-1) == (surface[shown] == pair[1])))


def permuted_trial(config, run: Run, model: str) -> dict:
    """Control: coefficients permuted among the Gaussians of each object, positions kept."""

    def permute(data: CloudDataset, part: int) -> CloudDataset:
        rng = np.random.default_rng((config.seed, _CONTROL, part))
        order = rng.permuted(np.tile(np.arange(config.num_points), (len(data.labels), 1)), axis=1)

        def moved(leaf):
            return np.take_along_axis(leaf, order.reshape(*order.shape, *[1] * (leaf.ndim - 2)), 1)

        kept = data.cloud.means
        return data._replace(cloud=jax.tree.map(moved, data.cloud)._replace(means=kept))

    return _control(config, run, model, "permuted", permute)


def shuffled_trial(config, run: Run, model: str) -> dict:
    """Control: training labels shuffled, test labels kept."""

    def shuffle(data: CloudDataset, part: int) -> CloudDataset:
        rng = np.random.default_rng((config.seed, _CONTROL, 2))
        return data._replace(labels=rng.permutation(data.labels)) if part == 0 else data

    return _control(config, run, model, "shuffled", shuffle)


def _control(config, run: Run, model: str, name: str, change) -> dict:
    return train_once(
        run,
        f"analytic_{model}_{name}",
        study_key(config, _TRAIN, 0),
        change(dataset(config, 0, 0), 0),
        change(dataset(config, 0, 1), 1),
        cls_config(config, model, config.steps),
        "posq",
        config.checkpoint_every,
    )


def positions_by_surface(config) -> dict[str, np.ndarray]:
    """One value an object, `[surfaces, objects]`, of each quantity of its positions.

    The mean radius; the mean, the deviation and the largest value of each coordinate. Normalised
    clouds are centred: the means hold little but rounding. Points of an object are not
    independent; objects are.
    """
    data = dataset(config, 0, 0)
    means = jnp.asarray(data.cloud.means)
    values = {"radius": jnp.linalg.norm(means, axis=-1).mean(1)}
    for axis, name in enumerate("xyz"):
        along = means[..., axis]
        values |= {name: along.mean(1), f"std_{name}": along.std(1), f"max_{name}": along.max(1)}
    surface = data.labels % len(SURFACES)
    return {
        name: np.stack([np.asarray(value)[surface == s] for s in range(len(SURFACES))])
        for name, value in values.items()
    }
