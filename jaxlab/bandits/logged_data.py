"""Logs of real systems from files: bandit feedback and episode returns."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlab.user_files import read_arrays


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


class LoggedRewards(NamedTuple):
    """One's own log, one entry a row.

    Attributes:
      actions: `[n]` integer arms.
      rewards: `[n]`.
      propensities: `[n]` probability with which the arm was chosen; None where it was not logged.
      num_arms: largest arm + 1.
    """

    actions: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray | None
    num_arms: int

    @property
    def adaptive(self) -> bool:
        """Whether some arm was logged with several propensities: the logging policy changed.

        Then counts may depend on rewards, and a certificate for fixed counts does not hold.
        """
        if self.propensities is None:
            return False
        low, high = np.full(self.num_arms, np.inf), np.zeros(self.num_arms)
        np.minimum.at(low, self.actions, self.propensities)
        np.maximum.at(high, self.actions, self.propensities)
        return bool((high > low * (1 + 1e-6)).any())


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


def load_log(path: str | os.PathLike) -> LoggedRewards:
    """Reads `arm` and `reward`, and `propensity` where it is there, from `.npz` or `.csv`.

    A certificate holds for logs whose counts do not depend on rewards; see
    `LoggedRewards.adaptive`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another suffix, a missing array, arms that are not integers >= 0, rewards that are
        not finite, propensities outside (0, 1], arrays that differ in length, or no rows.
    """
    columns = _read(path, {"arm": int, "reward": float}, {"propensity": float})
    arms, rewards = columns["arm"], columns["reward"]
    propensities = columns.get("propensity")
    _check_pairs(path, "arm", arms, "reward", rewards)
    if propensities is not None:
        if propensities.shape != arms.shape:
            raise ValueError(f"{path}: propensity must be {arms.shape}, got {propensities.shape}")
        if not ((propensities > 0) & (propensities <= 1)).all():
            raise ValueError(f"{path}: propensity must lie in (0, 1]")
    return LoggedRewards(arms, rewards, propensities, int(arms.max()) + 1)


def load_returns(path: str | os.PathLike) -> LoggedReturns:
    """Reads `policy_id` and `episode_return`, an entry per episode, from `.npz` or `.csv`.

    Policies are numbered from 0; one that has no episode gets a row that is masked out.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another suffix, a missing array, negative numbers of policies, returns that are
        not finite, arrays that differ in length, or no episode; the message names the array.
    """
    columns = _read(path, {"policy_id": int, "episode_return": float})
    policy, returns = columns["policy_id"], columns["episode_return"]
    _check_pairs(path, "policy_id", policy, "episode_return", returns)
    counts = np.bincount(policy.astype(np.int64))
    return _pad(returns[np.argsort(policy, kind="stable")], counts)


def load_minari_returns(paths: list[str | os.PathLike]) -> LoggedReturns:
    """Returns of every episode of Minari datasets on disk, one dataset per logging policy.

    Args:
      paths: folders that hold a dataset's `data` directory.

    Raises:
      ImportError: minari is not installed.
      FileNotFoundError: a folder without a dataset.
      ValueError: no folder, or a return that is not finite.
    """
    if not paths:
        raise ValueError("paths is empty; name at least one folder of a Minari dataset")
    from minari import MinariDataset

    returns, counts = [], []
    for path in paths:
        folder = Path(path) / "data"
        if not folder.is_dir():
            raise FileNotFoundError(f"{path} holds no Minari dataset: {folder} is missing")
        episodes = MinariDataset(folder).iterate_episodes()
        returns.append([float(episode.rewards.sum()) for episode in episodes])
        counts.append(len(returns[-1]))
        if not np.isfinite(returns[-1]).all():
            raise ValueError(f"{path}: an episode's rewards hold NaN or infinity")
    return _pad(np.concatenate(returns), np.array(counts))


def _pad(returns: np.ndarray, counts: np.ndarray) -> LoggedReturns:
    """Rows of `counts` entries each, from all of them one after the other."""
    mask = np.arange(counts.max()) < counts[:, None]
    table = np.zeros(mask.shape)
    table[mask] = returns  # the mask's True entries run row by row
    return LoggedReturns(table, mask)


def _check_pairs(path, number_name: str, numbers, value_name: str, values) -> None:
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{path}: {number_name} must hold integers, got {numbers.dtype}")
    if numbers.ndim != 1 or values.shape != numbers.shape or not numbers.size:
        raise ValueError(
            f"{path}: {number_name} and {value_name} must be vectors of one length >= 1, got "
            f"{numbers.shape} and {values.shape}"
        )
    if numbers.min() < 0:
        raise ValueError(f"{path}: {number_name} must be >= 0, got {numbers.min()}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {value_name} holds NaN or infinity")


def _read(
    path: str | os.PathLike, needed: dict[str, type], optional: dict[str, type] | None = None
) -> dict[str, np.ndarray]:
    """Named vectors from a `.csv` or `.npz` file."""
    suffix = Path(path).suffix
    if suffix == ".csv":
        return _read_columns(path, needed, optional)
    if suffix == ".npz":
        return read_arrays(path, needed, optional or ())
    raise ValueError(f"{path}: logs are read from .npz or .csv files")


def _read_columns(path, needed, optional=None) -> dict[str, np.ndarray]:
    """The named columns of a CSV file with a header, each converted to its type."""
    # With the byte order mark that spreadsheets write, or without.
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or ()
        missing = [name for name in needed if name not in names]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}")
        kinds = needed | {name: kind for name, kind in (optional or {}).items() if name in names}
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
