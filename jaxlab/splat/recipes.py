"""The published training recipes of the backbones at paper size.

What is left out: PointNet's steps of 0.7 every 20 epochs are a cosine here, as everywhere else, and
random dropout of points is not done.
"""

from typing import Any

from jaxlab.checks import check_choice
from jaxlab.splat.training import ClsConfig

_POINTNET = {
    "batch_size": 24,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "scale_range": (0.8, 1.25),
    "translate": 0.1,
}
_WARMUP = {"dela": 20 / 250}  # share of the steps

RECIPES: dict[str, dict[str, Any]] = {
    "pointnet": _POINTNET,
    "pointnet2": _POINTNET,
    "dgcnn": {
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "final_learning_rate": 1e-3,
        "weight_decay": 1e-4,
    },
    "pointnext": {
        "batch_size": 32,
        "learning_rate": 2e-3,
        "final_learning_rate": 1e-4,
        "weight_decay": 0.05,
        "label_smoothing": 0.3,
        "scale_range": (0.9, 1.1),
    },
    "pointmlp": {
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "final_learning_rate": 0.005,
        "weight_decay": 2e-4,
    },
    "dela": {
        "batch_size": 32,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "label_smoothing": 0.2,
        "regularization": 1 / 3,
        "regularization_decay": 3e-3,
    },
    "ptv3": {"batch_size": 32, "learning_rate": 2e-3, "weight_decay": 0.05},
}


def published_config(model: str, num_steps: int, feature_set: str = "posq") -> ClsConfig:
    """The recipe of `model` at paper size, for so many steps.

    Raises:
      ValueError: an unknown backbone.
    """
    check_choice("model", model, RECIPES)
    return ClsConfig(
        model=model,
        size="paper",
        feature_set=feature_set,
        num_steps=num_steps,
        warmup_steps=round(_WARMUP.get(model, 0) * num_steps),
        **RECIPES[model],
    )
