import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.runs import digest


def test_the_same_content_has_one_name():
    name = digest({"X": np.arange(6.0), "size": 3, "none": None})
    assert re.fullmatch(r"[0-9a-f]{12}", name)
    assert digest({"X": np.arange(6.0).copy(), "size": 3, "none": None}) == name
    assert digest((jnp.arange(3), 1)) == digest((np.arange(3, dtype=np.int32), 1))
    rows = np.arange(6.0).reshape(2, 3)
    assert digest(rows[:, ::2]) == digest(rows[:, ::2].copy())


def test_values_shapes_dtypes_and_structure_count():
    contents = [
        (np.arange(6.0), 3),
        (np.arange(6.0), 4),
        (np.arange(6.0) + 1e-12, 3),
        (np.arange(6.0).reshape(2, 3), 3),
        (np.arange(6.0).astype(np.float32), 3),
        (np.arange(6.0),),
        [("a question", "an answer")],
        [("a question", "another")],
        (["a", "b"], ["c"]),
        (["a"], ["b", "c"]),
        {"a": "x"},
        {"b": "x"},
    ]
    assert len({digest(content) for content in contents}) == len(contents)


def test_other_leaves_are_refused():
    with pytest.raises(TypeError, match="got object"):
        digest({"log": object()})
