"""What a run ran on, and the compilation cache that makes the second start fast."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import jax

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
