"""Logs of real systems from files: bandit feedback and episode returns."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


class LoggedBandit(NamedTuple):
    """Bandit feedback, one entry a row of the log.

    Attributes:
      actions: `[n]` integer arms.
      rewards: `[n]`.
      positions: `[n]` slot on the page, 1 to 3.
      propensities: `[n]` probability with which the logging policy chose the arm.
      num_arms: largest arm + 1.
    """

    actions: np.ndarray
    rewards: np.ndarray
    positions: np.ndarray
    propensities: np.ndarray
    num_arms: int


class LoggedReturns(NamedTuple):
    """Episode returns `[K, n_max]`, zero-padded, and their mask; a row per logging policy."""

    returns: np.ndarray
    mask: np.ndarray


def load_open_bandit(path: str | os.PathLike) -> LoggedBandit:
    """Reads a CSV file of the Open Bandit Dataset (ZOZO).

    Needs the columns `item_id`, `position`, `click` and `propensity_score`; others are ignored.
    Only logs of the `random` policy have counts that do not depend on rewards: a certificate
    computed from a log of an adaptive policy (`bts`) is not valid.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a missing column, a value that does not parse, a propensity outside (0, 1], or no
        rows; the message names the column and the line.
    """
    columns = _read_columns(
        path, {"item_id": int, "position": int, "click": float, "propensity_score": float}
    )
    propensities = columns["propensity_score"]
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError(f"{path}: propensity_score must lie in (0, 1]")
    actions = columns["item_id"]
    if actions.min() < 0:
        raise ValueError(f"{path}: item_id must be >= 0, got {actions.min()}")
    return LoggedBandit(
        actions,
        columns["click"],
        columns["position"],
        propensities,
        int(actions.max()) + 1,
    )


def load_returns(path: str | os.PathLike) -> LoggedReturns:
    """Reads `policy_id` and `episode_return`, an entry per episode, from `.npz` or `.csv`.

    Policies are numbered from 0; one that has no episode gets a row that is masked out.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another suffix, a missing array, negative numbers of policies, returns that are
        not finite, arrays that differ in length, or no episode; the message names the array.
    """
    path = Path(path)
    if path.suffix == ".csv":
        columns = _read_columns(path, {"policy_id": int, "episode_return": float})
    elif path.suffix == ".npz":
        columns = _read_arrays(path, ("policy_id", "episode_return"))
    else:
        raise ValueError(f"{path}: returns are read from .npz or .csv files")
    policy, returns = columns["policy_id"], columns["episode_return"]
    if not np.issubdtype(policy.dtype, np.integer):
        raise ValueError(f"{path}: policy_id must hold integers, got {policy.dtype}")
    if policy.ndim != 1 or returns.shape != policy.shape or not policy.size:
        raise ValueError(
            f"{path}: policy_id and episode_return must be vectors of one length >= 1, got "
            f"{policy.shape} and {returns.shape}"
        )
    if policy.min() < 0:
        raise ValueError(f"{path}: policy_id must be >= 0, got {policy.min()}")
    if not np.isfinite(returns).all():
        raise ValueError(f"{path}: episode_return holds NaN or infinity")
    counts = np.bincount(policy)
    mask = np.arange(counts.max()) < counts[:, None]
    table = np.zeros(mask.shape)
    # The mask's True entries run row by row, as the episodes do once sorted by policy.
    table[mask] = returns[np.argsort(policy, kind="stable")]
    return LoggedReturns(table, mask)


def load_minari_returns(paths: list[str | os.PathLike]) -> LoggedReturns:
    """Returns of every episode of Minari datasets on disk, one dataset per logging policy.

    Args:
      paths: folders that hold a dataset's `data` directory.

    Raises:
      ImportError: minari is not installed.
      FileNotFoundError: a folder without a dataset.
    """
    from minari import MinariDataset

    rows = []
    for path in paths:
        folder = Path(path) / "data"
        if not folder.is_dir():
            raise FileNotFoundError(f"{path} holds no Minari dataset: {folder} is missing")
        episodes = MinariDataset(folder).iterate_episodes()
        rows.append([float(episode.rewards.sum()) for episode in episodes])
    counts = np.array([len(row) for row in rows])
    mask = np.arange(counts.max()) < counts[:, None]
    table = np.zeros(mask.shape)
    table[mask] = np.concatenate(rows)
    return LoggedReturns(table, mask)


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in names if name not in file.files]
        if missing:
            raise ValueError(f"{path} has no array {', '.join(missing)}; it holds {file.files}")
        return {name: file[name] for name in names}


def _read_columns(path: str | os.PathLike, kinds: dict[str, type]) -> dict[str, np.ndarray]:
    """The named columns of a CSV file with a header, each converted to its type."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in kinds if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}")
        rows = list(_convert(path, reader, kinds))
    if not rows:
        raise ValueError(f"{path} has no rows")
    return {
        name: np.array(values) for name, values in zip(kinds, zip(*rows, strict=True), strict=True)
    }


def _convert(path, reader: csv.DictReader, kinds: dict[str, type]) -> Iterator[tuple]:
    for row in reader:
        values = []
        for name, kind in kinds.items():
            try:
                values.append(kind(row[name]))
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {name} is {row[name]!r}, not {kind.__name__}"
                ) from None
        yield tuple(values)
