import itertools
from types import SimpleNamespace

import jax
import numpy as np

from jaxlab.runs import study_key


def test_keys_differ_by_use_and_by_seed():
    uses = [(1,), (2,), (1, 2), ("pretraining",), ("weights",), ("weights", 1)]
    configs = [SimpleNamespace(seed=seed) for seed in (0, 1)]
    keys = [study_key(config, *use) for config, use in itertools.product(configs, uses)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 12
    again = study_key(configs[0], *uses[0])
    np.testing.assert_array_equal(jax.random.key_data(again), jax.random.key_data(keys[0]))


def test_a_name_is_not_a_child_of_the_root():
    """Numbers 0, 1, ... folded in are what splitting gives: names keep clear of them."""
    children = jax.random.key_data(jax.random.split(jax.random.key(0), 64)).tolist()
    assert jax.random.key_data(study_key(SimpleNamespace(seed=0), 3)).tolist() == children[3]
    named = study_key(SimpleNamespace(seed=0), "weights")
    assert jax.random.key_data(named).tolist() not in children
