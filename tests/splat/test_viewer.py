import base64
import re
import shutil
import subprocess

import pytest

from jaxlab import splat
from tests.splat.scenes import DATA

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

# Appended to the page: opens what is asked for, and writes what is on the canvas into the title.
PROBE = """
<script>
(async () => {
  const ply = "%s";
  if (ply) await open(new File([Uint8Array.from(atob(ply), (c) => c.charCodeAt(0))], "%s"));
  const pixels = new Uint8Array(4 * canvas.width * canvas.height);
  gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  let painted = 0;
  for (let i = 3; i < pixels.length; i += 4) painted += pixels[i] > 20;
  document.title = `painted ${painted / (canvas.width * canvas.height)} error ${gl.getError()}`;
})();
</script>
"""


def look(folder, page, data=b"", name=""):
    """`(status line, painted share of the canvas)` of a page in a browser without a window."""
    path = folder / "probe.html"
    path.write_text(page + PROBE % (base64.b64encode(data).decode(), name))
    result = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--window-size=320,240",
            "--virtual-time-budget=8000",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    dom = result.stdout
    found = re.search(r"<title>painted ([\d.e-]+) error (\d+)</title>", dom)
    assert found, dom[:300] + result.stderr[-500:]
    assert found[2] == "0"
    return re.search(r'id="status">([^<]*)<', dom)[1], float(found[1])


def test_the_page_is_one_file(tmp_path):
    splat.write_viewer(tmp_path / "viewer.html")
    page = (tmp_path / "viewer.html").read_text("utf-8")
    assert "http" not in page
    assert "src=" not in page
    cloud = splat.load_cloud(DATA / "fitted_flat_0.ply")
    splat.write_viewer(tmp_path / "shown.html", cloud)
    assert len((tmp_path / "shown.html").read_text("utf-8")) > len(page) + 256 * 32


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_shows_an_embedded_cloud_and_opens_files(tmp_path):
    cloud = splat.load_cloud(DATA / "fitted_flat_0.ply")
    splat.write_viewer(tmp_path / "shown.html", cloud)
    status, painted = look(tmp_path, (tmp_path / "shown.html").read_text("utf-8"))
    assert status.startswith("256 Gaussians")
    assert 0.05 < painted < 0.9
    splat.write_viewer(tmp_path / "empty.html")
    page = (tmp_path / "empty.html").read_text("utf-8")
    ply = (DATA / "fitted_flat_0.ply").read_bytes()
    status, from_ply = look(tmp_path, page, ply, "a.ply")
    assert status.startswith("256 Gaussians")
    assert abs(from_ply - painted) < 0.02
    status, nothing = look(tmp_path, page, ply[:-9], "a.ply")
    assert "truncated: expected 17408 bytes, found 17399" in status
    assert nothing == 0
