"""What a run ran on and how fast that is, and the cache that makes the second start fast."""

import ctypes
import math
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

# Parameters of glibc's mallopt, and the largest value that each takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 2**31 - 1

_PACKAGES = ("jaxlab", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


def describe_environment() -> dict[str, object]:
    """Versions, devices and git revision, for `config.json`."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "device": f"{jax.device_count()} x {device.device_kind}",
        "processes": jax.process_count(),
        "git_revision": _git_revision(),
    }


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache directory, unless the user chose a folder.

    The environment variable `JAX_COMPILATION_CACHE_DIR` chooses another folder.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(root / "jaxlab" / "xla"))
        # Many small programs, each under jax's default of a second, add up to the start of a run.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def quick_compiler_flags() -> str:
    """`XLA_FLAGS` for programs that run for a shorter time than they compile.

    They compile in half the time and run slower, so they are for tests and tiny runs on a CPU. A
    jaxlib that does not know a flag ends the process, so there are none, "", beside the releases
    that were tried. They count where they are in the environment before the first computation.
    """
    if not metadata.version("jaxlib").startswith("0.10."):
        return ""
    return "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def processor_count() -> int:
    """Processors that this process may use; all of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Lets the process keep the memory that it frees, where the C library is glibc.

    That library gives large blocks back at once, and each step of a training on a CPU gets fresh
    pages for its arrays, a fifth of the time of a small network's step. The process stays as large
    as it was at its largest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_BLOCK)


def matmul_flops_per_second(
    dtype: Any = jnp.float32, *, size: int | None = None, rounds: int = 8
) -> float:
    """The best rate at which this device multiplies square matrices, FLOP/s.

    By default 1024 rows on a CPU and 8192 on an accelerator, where less is over sooner than begun.
    """
    if size is None:
        size = 1024 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((size, size), dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    multiply(square, square).block_until_ready()
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        multiply(square, square).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The checkout's commit; None outside a checkout or where git is missing."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
