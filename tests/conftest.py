"""Settings of every test: host devices, how programs are compiled, one hypothesis profile."""

import os

import hypothesis
import jax
import pytest

from jaxlab.runs import enable_compilation_cache, quick_compiler_flags

pytest.register_assert_rewrite("tests.experiments")  # it asserts for several modules
pytest_plugins = ["tests.peer_values"]

# Nine tenths of the suite is compilation. The parallel tests need several devices on one machine;
# the user's own flags come last, which win.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=4",
        quick_compiler_flags(),
        os.environ.get("XLA_FLAGS", ""),
    ]
)
enable_compilation_cache()
hypothesis.settings.register_profile(
    "jaxlab",
    deadline=None,  # the first example compiles
    max_examples=25,
    derandomize=True,
    print_blob=True,
)
hypothesis.settings.load_profile("jaxlab")


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs():
    """Frees a module's programs at its end.

    Each maps memory, and a process may hold 65,530 maps on Linux: a worker that keeps the programs
    of the whole suite crashes in the compiler.
    """
    yield
    jax.clear_caches()
