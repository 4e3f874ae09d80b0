"""What several rooms refuse alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.checks import check_at_least, check_choice, check_equal_shapes


@pytest.mark.parametrize("choices", [("max", "row"), {"max": 1, "row": 2}])
def test_check_choice(choices):
    check_choice("how", "row", choices)
    with pytest.raises(ValueError, match=r"^how must be one of max, row, got 'col'$"):
        check_choice("how", "col", choices)
    with pytest.raises(ValueError, match="got None"):
        check_choice("how", None, choices)


def test_check_at_least():
    check_at_least("rows", 1, 1)
    check_at_least("decay", np.float32(0.5), 0.5)
    with pytest.raises(ValueError, match=r"^rows must be >= 1, got 0$"):
        check_at_least("rows", 0, 1)
    with pytest.raises(ValueError, match="got nan"):
        check_at_least("decay", float("nan"), 0)


def test_check_equal_shapes():
    check_equal_shapes(a=np.zeros((2, 3)), b=jnp.ones((2, 3)), c=None, d=[[1, 2, 3]] * 2)
    with pytest.raises(ValueError, match=r"^shapes must be equal, got a \(2,\), b \(\)$"):
        check_equal_shapes(a=[1, 2], b=0.5)


def test_check_equal_shapes_of_traced_arrays():
    @jax.jit
    def add(a, b):
        check_equal_shapes(a=a, b=b)
        return a + b

    np.testing.assert_array_equal(add(np.ones(2), np.ones(2)), [2, 2])
    with pytest.raises(ValueError, match=r"a \(2,\), b \(1,\)"):
        add(np.ones(2), np.ones(1))
