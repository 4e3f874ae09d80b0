"""No two uses of random numbers share a key."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from jaxlab.unlearn import studies

SOURCES = sorted(Path(studies.__file__).parent.glob("*.py"))


def calls_of(name):
    """(file, arguments as text) of every call of a function in the studies."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                yield path.name, [ast.unparse(argument) for argument in node.args]


def test_every_use_has_a_name_of_its_own():
    calls = [*calls_of("study_key"), *calls_of(".key")]  # of a bench, which folds in its model
    uses = [arguments[-1] for _, arguments in calls]
    assert len(uses) > 30
    assert [use for use, count in Counter(uses).items() if count > 1] == []


@pytest.mark.parametrize("name", ["random.key", "PRNGKey", "default_rng"])
def test_nothing_draws_from_the_seed_itself(name):
    assert list(calls_of(name)) == []
