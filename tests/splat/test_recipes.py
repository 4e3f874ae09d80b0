import dataclasses

import jax.numpy as jnp
import pytest

from jaxlab.splat.backbones import CLASSIFIERS
from jaxlab.splat.recipes import published_config
from jaxlab.splat.training import make_optimizer

_POINTNET = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": 24,
    "scale_range": (0.8, 1.25),
    "translate": 0.1,
}
# As the authors' repositories have them.
PUBLISHED = {
    "pointnet": _POINTNET,
    "pointnet2": _POINTNET,
    "pointnext": {
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "final_learning_rate": 1e-4,
        "weight_decay": 0.05,
        "batch_size": 32,
        "label_smoothing": 0.3,
        "scale_range": (0.9, 1.1),
        "rotate": "z",
        "clip_norm": 10.0,
    },
    "dela": {
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "warmup_steps": 80,  # 20 epochs of 250
        "label_smoothing": 0.2,
        "batch_size": 32,
        "regularization": 1 / 3,
        "regularization_decay": 3e-3,
    },
    "pointmlp": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "final_learning_rate": 0.005,
        "weight_decay": 2e-4,
        "batch_size": 32,
    },
}


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_backbone_has_a_recipe_that_makes_an_optimizer(model):
    config = published_config(model, 1000)
    assert (config.model, config.size, config.num_steps) == (model, "paper", 1000)
    make_optimizer(config).init(jnp.zeros(2))


@pytest.mark.parametrize("model", PUBLISHED)
def test_recipes_have_the_published_numbers(model):
    fields = dataclasses.asdict(published_config(model, 1000))
    published = PUBLISHED[model]
    assert {name: fields[name] for name in published} == published


def test_dela_warms_up():
    assert published_config("dela", 250).warmup_steps == 20
    with pytest.raises(ValueError, match="model must be one of pointnet"):
        published_config("vgg", 10)
