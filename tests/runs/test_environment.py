import types

import jax.numpy as jnp

from jaxlab.runs.environment import (
    keep_freed_memory,
    matmul_flops_per_second,
    quick_compiler_flags,
)


def test_a_matrix_product_takes_time():
    assert 1e6 < matmul_flops_per_second(jnp.float32, size=64, rounds=2) < 1e16


def test_quick_flags_are_for_the_releases_that_know_them(monkeypatch):
    monkeypatch.setattr("jaxlab.runs.environment.metadata.version", lambda name: "0.10.7")
    assert "--xla_backend_optimization_level=0" in quick_compiler_flags()
    monkeypatch.setattr("jaxlab.runs.environment.metadata.version", lambda name: "0.12.0")
    assert quick_compiler_flags() == ""


def test_freed_memory_is_kept_by_glibc_alone(monkeypatch):
    asked = []
    glibc = types.SimpleNamespace(mallopt=lambda *pair: asked.append(pair))
    for library in (types.SimpleNamespace(), glibc):
        monkeypatch.setattr("ctypes.CDLL", lambda name, library=library: library)
        keep_freed_memory()
    assert asked == [(-3, 2**31 - 1), (-1, 2**31 - 1)]
