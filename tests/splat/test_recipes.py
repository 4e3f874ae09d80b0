import jax.numpy as jnp
import pytest

from jaxlab.splat.backbones import CLASSIFIERS
from jaxlab.splat.recipes import RECIPES, published_config
from jaxlab.splat.training import make_optimizer


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_backbone_has_a_recipe_that_makes_an_optimizer(model):
    config = published_config(model, 1000)
    assert config.size == "paper"
    assert config.learning_rate == RECIPES[model]["learning_rate"]
    make_optimizer(config).init(jnp.zeros(2))


def test_dela_warms_up():
    assert published_config("dela", 250).warmup_steps == 20
    with pytest.raises(ValueError, match="model must be one of pointnet"):
        published_config("vgg", 10)
