"""The seven classifiers of the paper's table, by name."""

from typing import Any

import flax.linen as nn

from jaxlab.checks import check_at_least, check_choice
from jaxlab.splat.backbones.dela import DeLA
from jaxlab.splat.backbones.dgcnn import DGCNN
from jaxlab.splat.backbones.layers import max_pool
from jaxlab.splat.backbones.pointmlp import PointMLP
from jaxlab.splat.backbones.pointnet import PointNet
from jaxlab.splat.backbones.pointnet2 import Level, PointNet2
from jaxlab.splat.backbones.pointnext import PointNeXt
from jaxlab.splat.backbones.ptv3 import PTv3

__all__ = ["CLASSIFIERS", "SIZES", "make_classifier", "max_pool"]

CLASSIFIERS: dict[str, type[nn.Module]] = {
    "pointnet": PointNet,
    "pointnet2": PointNet2,
    "dgcnn": DGCNN,
    "pointnext": PointNeXt,
    "pointmlp": PointMLP,
    "dela": DeLA,
    "ptv3": PTv3,
}
SIZES = ("paper", "tiny")

# Rates of the published configurations.
_DROPOUT = dict.fromkeys(CLASSIFIERS, 0.5) | {"pointnet": 0.4, "pointnet2": 0.4, "ptv3": 0.0}

# Two stages and an eighth of the width: for smoke runs and tests, from 32 points on.
_TINY: dict[str, dict[str, Any]] = {
    "pointnet": {
        "widths": (32, 64, 128),
        "head": (64, 32),
        "transform": None,
    },
    "pointnet2": {
        "levels": (Level(32, 0.4, 8, (16, 32)), Level(16, 0.8, 8, (32, 64))),
        "last": (64, 128),
        "head": (64, 32),
    },
    "dgcnn": {"widths": (16, 32), "embedding": 128, "head": (64, 32), "neighbors": 8},
    "pointnext": {
        "stem": 16,
        "widths": (32, 64),
        "radius": 0.4,
        "neighbors": 8,
        "head": (64, 32),
    },
    "pointmlp": {
        "embedding": 16,
        "expansions": (2, 2),
        "blocks": (1, 1),
        "bottleneck": 0.25,
        "neighbors": 8,
        "head": (64, 32),
    },
    "dela": {
        "points": (64, 32),
        "widths": (16, 32),
        "depth": 2,
        "neighbors": 8,
        "encoding": (8, 16),
        "final": 128,
        "head": (64, 32),
        "drop_path": 0.0,
    },
    "ptv3": {
        "depths": (1, 1),
        "widths": (16, 32),
        "heads": (2, 4),
        "patch": 32,
        "neighbors": 8,
        "head": (32,),
    },
}


def make_classifier(
    name: str,
    num_classes: int,
    *,
    size: str = "paper",
    dropout: float | None = None,
    axis_name: str | None = None,
    positions_in_features: bool = True,
) -> nn.Module:
    """A classifier `apply(variables, positions [B, N, 3], features [B, N, C], train=False)`.

    It returns scores `[B, num_classes]`, for any number of channels. Evaluated, it depends neither
    on the order of the points nor on the other objects of a batch. Collections are `params` and
    `batch_stats`; training needs the stream `dropout`.

    Args:
      name: pointnet, pointnet2, dgcnn, pointnext, pointmlp, dela or ptv3.
      num_classes: number of scores.
      size: `"paper"`, or `"tiny"` (two stages, narrow, from 32 points on; PointNet without its
        transforms).
      dropout: rate in the head; the published one by default.
      axis_name: mapped axis over which batch statistics are shared.
      positions_in_features: whether the first three channels are the positions, which PointNet's
        input transform turns.

    Raises:
      ValueError: an unknown name or size, or a rate outside [0, 1).
    """
    check_choice("classifier", name, CLASSIFIERS)
    check_choice("size", size, SIZES)
    check_at_least("num_classes", num_classes, 1)
    rate = _DROPOUT[name] if dropout is None else dropout
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {rate}")
    return CLASSIFIERS[name](
        num_classes=num_classes,
        dropout=rate,
        axis_name=axis_name,
        positions_in_features=positions_in_features,
        **(_TINY[name] if size == "tiny" else {}),
    )
