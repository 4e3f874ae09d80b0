"""Batches of separable problems, padded to one shape so that a sweep is one compiled program."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

from jaxlab.optim.data import prepare, random_separable
from jaxlab.optim.gradient_descent import GDResult, run_gd
from jaxlab.optim.margin import max_margin

# Real problems: scikit-learn's loader, the class that becomes +1, and the one that becomes -1
# (None: the rest).
REAL_SETS = {
    "iris": ("load_iris", 0, None),
    "wine": ("load_wine", 0, None),
    "digits 0v1": ("load_digits", 0, 1),
    "digits 4v9": ("load_digits", 4, 9),
    "digits 3v8": ("load_digits", 3, 8),
    "digits 1v8": ("load_digits", 1, 8),
    "digits 0vR": ("load_digits", 0, None),
    "cancer": ("load_breast_cancer", 1, 0),
}
_PIXEL_RANGE = 16


_MOST_ENTRIES = 1e8


class Problems(NamedTuple):
    """S data sets of norm at most 1, with columns of zeros and copies of a sample as padding.

    Attributes:
      X: [S, n, d].
      y: [S, n].
      weight: [S, n], 1 for a sample and 0 for a copy.
      margin: [S], the maximum margin; 0 where the set is not separable.
      size: [S], samples in each set.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    margin: np.ndarray
    size: np.ndarray

    @property
    def separable(self) -> bool:
        return bool((self.margin > 0).all())


def random_problems(
    seed: int,
    count: int,
    *,
    num_samples: tuple[int, int],
    dims: Sequence[int],
    margins: tuple[float, float],
) -> Problems:
    """Draws `count` sets of `random_separable`, sizes and margins uniform in the given ranges."""
    rng = np.random.default_rng(seed)
    smallest, largest = num_samples
    size = rng.integers(smallest, largest + 1, count)
    asked = rng.uniform(*margins, count)
    keys = jax.random.split(jax.random.key(seed), count)
    X, y = np.zeros((count, largest, max(dims))), np.zeros((count, largest))
    for group, dim in enumerate(dims):
        mine = np.arange(group, count, len(dims))
        if len(mine):
            draw = jax.vmap(functools.partial(_draw, num_samples=largest, dim=dim))
            X[mine, :, :dim], y[mine] = draw(keys[mine], asked[mine])
    weight = (np.arange(largest) < size[:, None]).astype(float)
    X = np.where(weight[..., None] > 0, X, X[:, :1])
    y = np.where(weight > 0, y, y[:, :1])
    margin = [max_margin(X[i, : size[i]], y[i, : size[i]]).margin for i in range(count)]
    return Problems(X, y, weight, np.array(margin), size)


@functools.partial(jax.jit, static_argnames=("num_samples", "dim"))
def _draw(key, margin, num_samples, dim):
    return random_separable(key, num_samples, dim, margin)[:2]


def one_problem(X: np.ndarray | BCOO, y: np.ndarray) -> Problems:
    """A single prepared data set as a batch of one.

    Raises:
      ValueError: X is so large that its margin is out of reach.
    """
    if X.shape[0] * X.shape[1] > _MOST_ENTRIES:
        raise ValueError(
            f"X {X.shape} has more than {_MOST_ENTRIES:.0e} entries, too many for the dense solve "
            "of its maximum margin: take fewer samples or features (`run_gd` itself has no limit)"
        )
    X = np.asarray(X.todense()) if isinstance(X, BCOO) else X
    margin, size = max_margin(X, y).margin, len(y)
    return Problems(X[None], y[None], np.ones((1, size)), np.array([margin]), np.array([size]))


def real_problem(name: str) -> Problems:
    """One of `REAL_SETS`: features standardized, but pixels divided by their range.

    Raises:
      ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the real data sets come with scikit-learn: pip install 'jaxlab[optim]'"
        ) from error
    loader, positive, negative = REAL_SETS[name]
    pixels = loader == "load_digits"
    bunch = getattr(datasets, loader)()
    chosen = np.isin(bunch.target, (positive, negative)) if negative is not None else slice(None)
    features, labels = bunch.data[chosen], bunch.target[chosen]
    features = features / _PIXEL_RANGE if pixels else features
    return one_problem(*prepare(features, labels == positive, standardize=not pixels)[:2])


def eta_label(eta: float) -> str:
    """`1e6` where `format` writes `1e+06`: for tables, figures and the names of metrics."""
    return f"{eta:g}".replace("e+0", "e").replace("e+", "e")


def sweep(
    problems: Problems,
    etas: Sequence[float],
    num_steps: int,
    *,
    loss: str,
    rule: str = "risk",
    degree: float = 1.0,
) -> GDResult:
    """Runs `run_gd` on every problem with every eta; leaves are NumPy arrays [S, E, ...]."""
    result = _sweep(
        problems.X,
        problems.y,
        problems.weight,
        jnp.array(etas, float),
        num_steps=num_steps,
        loss=loss,
        rule=rule,
        degree=degree,
    )
    return jax.tree.map(np.asarray, result)


@functools.partial(jax.jit, static_argnames=("num_steps", "loss", "rule", "degree"))
def _sweep(X, y, weight, etas, **static):
    def run(X, y, weight, eta):
        return run_gd(X, y, eta, sample_weight=weight, **static)

    over_etas = jax.vmap(run, in_axes=(None, None, None, 0))
    return jax.vmap(over_etas, in_axes=(0, 0, 0, None))(X, y, weight, etas)
