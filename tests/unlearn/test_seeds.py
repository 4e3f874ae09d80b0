"""No two uses of random numbers share a key."""

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxlab.unlearn import studies
from jaxlab.unlearn.studies.seeds import named_key

SOURCES = sorted(Path(studies.__file__).parent.glob("*.py"))
CONFIG = SimpleNamespace(seed=0)


def calls_of(name):
    """(file, arguments as text) of every call of a function in the studies."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                yield path.name, [ast.unparse(argument) for argument in node.args]


def test_every_use_has_a_name_of_its_own():
    calls = [*calls_of("named_key"), *calls_of(".key")]  # of a bench, which folds in its model
    uses = [arguments[-1] for file, arguments in calls if file != "seeds.py"]
    assert len(uses) > 30
    assert [use for use, count in Counter(uses).items() if count > 1] == []


@pytest.mark.parametrize("name", ["random.key", "PRNGKey", "default_rng"])
def test_nothing_draws_from_the_seed_itself(name):
    assert {file for file, _ in calls_of(name)} <= {"seeds.py"}


def test_keys_differ_by_use_and_by_seed():
    keys = [
        named_key(SimpleNamespace(seed=seed), use)
        for seed in (0, 1)
        for use in ("pretraining", "weights")
    ]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4


def test_a_use_is_not_a_child_of_the_root():
    """Numbers 0, 1, ... folded in are what splitting gives: names keep clear of them."""
    children = jax.random.key_data(jax.random.split(jax.random.key(CONFIG.seed), 64)).tolist()
    use = jax.random.key_data(named_key(CONFIG, "weights")).tolist()
    assert jax.random.key_data(jax.random.fold_in(jax.random.key(0), 3)).tolist() == children[3]
    assert use not in children
