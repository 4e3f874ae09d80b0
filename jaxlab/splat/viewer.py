"""A page that shows Gaussian splats in any browser: WebGL, one file, nothing from elsewhere."""

import base64
import os
import tempfile
from importlib import resources
from pathlib import Path

from jaxlab.runs import atomic
from jaxlab.splat.splat_file import write_splat
from jaxlab.splat.types import GaussianCloud

_PLACE = "/*EMBEDDED*/"


def write_viewer(path: str | os.PathLike, cloud: GaussianCloud | None = None) -> None:
    """Writes the viewer as an HTML page (host).

    The page opens `.ply` and `.splat` files from disk; colours have degree 0 there.

    Args:
      path: of the page.
      cloud: shown at once, stored in the page within the 8 bits of `.splat`; None leaves it empty.
    """
    page = resources.files("jaxlab.splat").joinpath("viewer.html").read_text("utf-8")
    embedded = ""
    if cloud is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_splat(Path(folder) / "cloud.splat", cloud)
            data = (Path(folder) / "cloud.splat").read_bytes()
        embedded = base64.b64encode(data).decode("ascii")
    atomic.write_text(path, page.replace(_PLACE, embedded))
