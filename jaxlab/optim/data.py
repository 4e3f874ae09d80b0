"""Data of the linear classification problems: generated, read from files, and prepared."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

from jaxlab.arrays import as_float, is_concrete
from jaxlab.checks import check_choice
from jaxlab.user_files import read_arrays

NORMALIZATIONS = ("max", "row", "none")
# A BCOO entry of two int32 indices takes two to three times the room of a dense one, and its
# products run an order of magnitude slower per entry.
_SPARSE_BELOW = 0.1


class Dataset(NamedTuple):
    """Samples ready for `run_gd`.

    Attributes:
      X: [n, d], float64, dense or BCOO.
      y: labels of +-1, [n].
      scale: what the rows were divided by: a number, or [n] for normalize="row".
    """

    X: np.ndarray | BCOO
    y: np.ndarray
    scale: float | np.ndarray


def random_separable(
    key: jax.Array, num_samples: int, dim: int, margin: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws unit rows with `y_i x_i.w_star >= margin`: uniform, those too close pushed out.

    Works under jit and vmap over `key` and `margin`.

    Args:
      key: random key.
      num_samples: n.
      dim: d, at least 2.
      margin: inside (0, 1); the maximum margin of the draw is a little larger.

    Returns:
      X unit rows [n, d]; y = +-1 with probability 1/2 each [n]; w_star, a unit vector [d].

    Raises:
      ValueError: num_samples < 1, dim < 2, or a static margin outside (0, 1).
    """
    if num_samples < 1 or dim < 2:
        raise ValueError(f"num_samples must be >= 1 and dim >= 2, got {num_samples} and {dim}")
    if is_concrete(margin) and not 0 < margin < 1:
        raise ValueError(f"margin must lie inside (0, 1), got {margin}")
    key_star, key_rows, key_labels = jax.random.split(key, 3)
    w_star = jax.random.normal(key_star, (dim,))
    w_star /= jnp.linalg.norm(w_star)
    rows = jax.random.normal(key_rows, (num_samples, dim))
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    along = jnp.abs(rows @ w_star)
    across = rows - jnp.outer(rows @ w_star, w_star)
    across /= jnp.linalg.norm(across, axis=1, keepdims=True)
    along = jnp.maximum(along, margin)[:, None]
    signed = along * w_star + jnp.sqrt(1 - along**2) * across
    y = jax.random.rademacher(key_labels, (num_samples,), signed.dtype)
    return y[:, None] * signed, y, w_star


def prepare(
    X: np.ndarray | BCOO,
    y: np.ndarray,
    *,
    add_bias: bool = True,
    standardize: bool = False,
    normalize: str = "max",
) -> Dataset:
    """Brings raw samples to labels of +-1 and norms of at most 1, on the host in float64.

    Args:
      X: [n, d], dense or BCOO (whose values keep JAX's float; entries at one place are added up).
      y: two classes, of any type that sorts; the larger label becomes +1. [n].
      add_bias: append a constant feature 1: the classifiers here have no intercept.
      standardize: `(x - mean) / std` per feature, first of all; a constant feature becomes 0.
      normalize: what to divide the rows by, last of all: "max" the largest row norm, "row" each by
        its own norm, "none".

    Raises:
      ValueError: an unknown normalization, shapes that do not fit, nan or infinity, not exactly two
        classes, X all zero (under `standardize`: all constant), a zero row under "row",
        `standardize` of sparse data.
    """
    check_choice("normalize", normalize, NORMALIZATIONS)
    sparse = isinstance(X, BCOO)
    if sparse and standardize:
        raise ValueError("standardize makes sparse data dense: pass X.todense(), or leave it off")
    if not sparse:
        X = np.asarray(X, np.float64)
    y = np.asarray(y)
    if X.ndim != 2 or y.ndim != 1 or X.shape[0] != y.shape[0]:
        raise ValueError(
            f"X must be [n, d] and y [n] with the same n, got X {X.shape} and y {y.shape}"
        )
    if isinstance(X, BCOO):
        X = _one_entry_each(X)
    values = np.asarray(X.data if isinstance(X, BCOO) else X)
    if not np.isfinite(values).all():
        where = "" if sparse else f", first in row {np.argwhere(~np.isfinite(values))[0, 0]}"
        raise ValueError(f"X holds nan or infinity{where}: drop or impute those samples")
    if not values.any():
        raise ValueError("X is all zero: there is nothing to learn from")

    if standardize:
        std = values.std(axis=0)
        # The mean of a constant feature is off by rounding, and so is its deviation.
        constant = np.ptp(values, axis=0) == 0
        if constant.all():
            raise ValueError(
                "every feature of X is constant, so that standardize leaves X all zero: pass "
                "features that vary"
            )
        X = np.where(constant, 0, (values - values.mean(axis=0)) / np.where(constant, 1, std))
    if add_bias:
        X = _with_bias(X)
    norms = _row_norms(X)
    if normalize == "row" and not norms.all():
        raise ValueError(
            f"row {int(np.argmin(norms))} of X is zero and has no direction: drop it, or add a bias"
        )
    scales: dict[str, Any] = {"max": float(norms.max()), "row": norms, "none": 1.0}
    scale = scales[normalize]
    return Dataset(_divide_rows(X, scale), signs(y), scale)


def check_labels(y: np.ndarray) -> None:
    """Raises ValueError where a label is NaN, which no class is equal to."""
    y = np.asarray(y)
    if np.issubdtype(y.dtype, np.floating) and np.isnan(y).any():
        raise ValueError(f"y holds NaN in {np.isnan(y).sum()} of {y.size} rows: remove those rows")


def signs(y: np.ndarray) -> np.ndarray:
    """Turns labels of two classes, [n], into -1.0 and +1.0, the larger label being +1."""
    check_labels(y)
    classes = np.unique(y)
    if len(classes) != 2:
        shown = ", ".join(str(c) for c in classes[:5]) + (", ..." if len(classes) > 5 else "")
        raise ValueError(
            f"y must hold two classes, got {len(classes)} ({shown}): "
            "choose one against the rest, for example with y == label"
        )
    return np.where(y == classes[1], 1.0, -1.0)


def _one_entry_each(X: BCOO) -> BCOO:
    """The same matrix with floating values, one for each place."""
    X = BCOO((as_float(X.data), X.indices), shape=X.shape)
    return X.sum_duplicates(remove_zeros=False) if X.nse else X


def _with_bias(X):
    num_samples, dim = X.shape
    if not isinstance(X, BCOO):
        return np.hstack([X, np.ones((num_samples, 1))])
    bias = np.stack([np.arange(num_samples), np.full(num_samples, dim)], axis=1)
    return BCOO(
        (
            jnp.concatenate([X.data, jnp.ones(num_samples, X.dtype)]),
            jnp.concatenate([X.indices, jnp.asarray(bias, X.indices.dtype)]),
        ),
        shape=(num_samples, dim + 1),
    )


def _row_norms(X) -> np.ndarray:
    if not isinstance(X, BCOO):
        return np.linalg.norm(X, axis=1)
    squares = np.square(np.asarray(X.data, np.float64))
    return np.sqrt(np.bincount(np.asarray(X.indices[:, 0]), squares, minlength=X.shape[0]))


def _divide_rows(X, scale):
    scale = np.asarray(scale)
    if not isinstance(X, BCOO):
        return X / (scale[:, None] if scale.ndim else scale)
    divisor = scale[np.asarray(X.indices[:, 0])] if scale.ndim else scale
    return BCOO((X.data / jnp.asarray(divisor, X.dtype), X.indices), shape=X.shape)


def load_npz(
    path: str | Path, *, x_key: str = "X", y_key: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Reads X [n, d] and y [n] from an `.npz` file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, no array of that name, or shapes that do not fit.
    """
    try:
        arrays = read_arrays(path, (x_key, y_key))
    except ValueError as error:
        hint = ". Name yours with x_key and y_key" if "has no array" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error
    X, y = arrays[x_key], arrays[y_key]
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise ValueError(f"{path}: X must be [n, d] and y [n], got X {X.shape} and y {y.shape}")
    return X, y


def load_libsvm(
    path: str | Path, *, num_features: int | None = None
) -> tuple[np.ndarray | BCOO, np.ndarray]:
    """Reads lines of `label index:value ...`, with indices from 1 and comments after `#`.

    Args:
      path: text file.
      num_features: d; by default the largest index.

    Returns:
      X [n, d], dense, or BCOO where less than a tenth of it is nonzero; y [n], the labels.

    Raises:
      ValueError: a line that does not parse, or an index below 1, above `num_features` or repeated;
        the message names file and line.
    """
    labels, rows, columns, values = [], [], [], []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            tokens = line.split("#", 1)[0].split()
            if not tokens:
                continue
            seen = set()
            try:
                labels.append(float(tokens[0]))
                for token in tokens[1:]:
                    index, value = token.split(":")
                    seen.add(int(index))
                    rows.append(len(labels) - 1)
                    columns.append(int(index))
                    values.append(float(value))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: expected 'label index:value ...', got {line.strip()!r}"
                ) from error
            if len(seen) < len(tokens) - 1:
                raise ValueError(f"{path}, line {number}: an index is repeated")
            if seen and min(seen) < 1:
                raise ValueError(
                    f"{path}, line {number}: index {min(seen)} is below 1, where indices start"
                )
            if seen and num_features is not None and max(seen) > num_features:
                raise ValueError(
                    f"{path}, line {number}: index {max(seen)} is above num_features={num_features}"
                )
    if not labels:
        raise ValueError(f"{path} holds no samples")
    dim = num_features if num_features is not None else max(columns, default=1)
    shape = (len(labels), dim)
    indices = np.stack([np.array(rows, int), np.array(columns, int) - 1], axis=1)
    if len(values) < _SPARSE_BELOW * shape[0] * shape[1]:
        X = BCOO((jnp.asarray(np.array(values)), jnp.asarray(indices, jnp.int32)), shape=shape)
    else:
        X = np.zeros(shape)
        X[indices[:, 0], indices[:, 1]] = values
    return X, np.array(labels)
