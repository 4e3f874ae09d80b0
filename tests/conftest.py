"""Settings of every test: four host devices, the compilation cache, one hypothesis profile."""

import os

# Before jax starts: the parallel tests need several devices on one machine.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import hypothesis

from jaxlab.runs import enable_compilation_cache

enable_compilation_cache()
hypothesis.settings.register_profile(
    "jaxlab",
    deadline=None,  # the first example compiles
    max_examples=25,
    derandomize=True,
    print_blob=True,
)
hypothesis.settings.load_profile("jaxlab")
