import jax.numpy as jnp
import pytest

from jaxlab.arrays import as_float, as_wide_float


@pytest.mark.parametrize(
    ("given", "own", "wide"),
    [
        ("int32", "float32", "float32"),
        ("bool", "float32", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float16", "float16", "float32"),
        ("float32", "float32", "float32"),
    ],
)
def test_dtypes(given, own, wide):
    x = jnp.ones(3, given)
    assert as_float(x).dtype == own
    assert as_wide_float(x).dtype == wide


def test_python_numbers():
    assert as_float(2).dtype == as_wide_float(2.5).dtype == "float32"
