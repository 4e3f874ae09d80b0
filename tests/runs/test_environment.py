import jax.numpy as jnp

from jaxlab.runs.environment import matmul_flops_per_second


def test_a_matrix_product_takes_time():
    assert 1e6 < matmul_flops_per_second(jnp.float32, size=64, rounds=2) < 1e16
