import importlib
import pkgutil
import types

import pytest

from jaxlab import rl


def test_every_name_is_there_and_no_file_hides_one():
    for module in pkgutil.iter_modules(rl.__path__):
        importlib.import_module(f"jaxlab.rl.{module.name}")
    for name in rl.__all__:
        assert not isinstance(getattr(rl, name), types.ModuleType), name
    assert dir(rl) == rl.__all__
    with pytest.raises(AttributeError, match="has no attribute 'sacc'"):
        rl.sacc  # noqa: B018
