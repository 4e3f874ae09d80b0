"""Accuracies of all backbones and feature sets on each data set: what most rows are read off."""

from typing import NamedTuple

import numpy as np

from jaxlab.runs import Run
from jaxlab.splat.studies import analytic, fitted, folder
from jaxlab.splat.studies.trials import accuracy

_FEWEST_BOXES = 4  # of each kind, for two folds


class Table(NamedTuple):
    """Trials on one data set.

    Attributes:
      title: of the data.
      trials: by `(model, feature_set)`, one dict a seed.
    """

    title: str
    trials: dict[tuple[str, str], list[dict]]

    def accuracies(self, model: str, features: str) -> np.ndarray:
        """Overall accuracy of each seed, `[S]`."""
        return np.array([accuracy(trial) for trial in self.trials[model, features]])

    def gains(self, model: str) -> np.ndarray:
        """How much all features add to positions, `[S]`."""
        return self.accuracies(model, "posq") - self.accuracies(model, "p")


def measure(config, run: Run) -> dict[str, Table]:
    """Tables of the data sets that the config asks for, by `A`, `B` and `own`.

    The first backbone is trained on every feature set, the others on positions and on all.
    """
    tables = {}
    if config.experiment in ("all", "analytic"):
        cells = {key: analytic.trials(config, run, *key) for key in _cells(config)}
        tables["A"] = Table("A, analytic", cells)
    if config.experiment in ("all", "fitted") and config.fit_objects >= _FEWEST_BOXES:
        data = fitted.dataset(config, run)
        cells = {key: fitted.trials(config, run, data, *key) for key in _cells(config)}
        tables["B"] = Table("B, fitted", cells)
    if config.experiment in ("all", "folder") and config.cloud_root:
        cells = {key: folder.trials(config, run, *key) for key in _cells(config)}
        tables["own"] = Table("own clouds", cells)
    return tables


def _cells(config) -> list[tuple[str, str]]:
    first, *others = config.models
    ends = ("p", "posq")
    return [(first, features) for features in config.feature_sets] + [
        (model, features) for model in others for features in ends
    ]
