"""Gradient descent with large, risk-adaptive stepsizes on separable data.

Example:
    >>> from jaxlab import optim
    >>> X, y, scale = optim.prepare(features, labels)  # rows of norm at most 1, y of +-1
    >>> result = optim.run_gd(X, y, eta=1e4, num_steps=500, rule="potential")
    >>> result.first_separated, result.log_risk_avg[-1]  # a step, and a risk in nats
    >>> optim.max_margin(X, y).margin  # gamma: burn-in is at most about 1 / gamma^2
    >>> tx = optim.adaptive_gd(eta=100.0)  # the stepsize as an optax transformation
"""

from jaxlab.optim.bounds import log_risk_bound
from jaxlab.optim.data import Dataset, load_libsvm, load_npz, prepare, random_separable
from jaxlab.optim.gradient_descent import GDResult, run_gd
from jaxlab.optim.hard_instances import HardDataset, hard_dataset_batch, hard_dataset_online
from jaxlab.optim.losses import LOSSES, MarginLoss, log_risk, margin_loss, phi
from jaxlab.optim.margin import MaxMarginResult, max_margin
from jaxlab.optim.perceptron import PerceptronResult, batch_perceptron, perceptron
from jaxlab.optim.stepsize import (
    RULES,
    AdaptiveGDState,
    adaptive_gd,
    log_stepsize,
    update_weights,
)
from jaxlab.optim.two_layer import (
    TwoLayerParams,
    TwoLayerResult,
    init_two_layer,
    run_two_layer_gd,
    two_layer_apply,
)

__all__ = [
    "LOSSES",
    "RULES",
    "AdaptiveGDState",
    "Dataset",
    "GDResult",
    "HardDataset",
    "MarginLoss",
    "MaxMarginResult",
    "PerceptronResult",
    "TwoLayerParams",
    "TwoLayerResult",
    "adaptive_gd",
    "batch_perceptron",
    "hard_dataset_batch",
    "hard_dataset_online",
    "init_two_layer",
    "load_libsvm",
    "load_npz",
    "log_risk",
    "log_risk_bound",
    "log_stepsize",
    "margin_loss",
    "max_margin",
    "perceptron",
    "phi",
    "prepare",
    "random_separable",
    "run_gd",
    "run_two_layer_gd",
    "two_layer_apply",
    "update_weights",
]
