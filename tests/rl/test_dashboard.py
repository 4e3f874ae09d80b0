import contextlib
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.dashboard import make_server, serving
from jaxlab.rl.episode_strip import write_episode
from tests.rl.test_host import CONFIG, SMALL, children

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ROW = {
    "wall_s": 1.0,
    "env_steps": 4000,
    "updates": 8,
    "mean_return": -1200.0,
    "sample_hz": 4000.0,
    "update_hz": 8.0,
    "update_frame_hz": 2048.0,
}


@contextlib.contextmanager
def page_of(folder):
    """Serves `metrics.jsonl` and `episode.png` of a folder; gives the server and its address."""
    with make_server(str(folder / "metrics.jsonl"), str(folder / "episode.png")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def write_rows(folder, *rows):
    text = "".join(json.dumps(ROW | row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)


def write_frames(folder):
    write_episode(folder, [np.full((30, 40, 3), 10 * i, np.uint8) for i in range(8)], -1.5)


def test_page_metrics_and_picture(tmp_path):
    with page_of(tmp_path) as (_, address):
        page = urllib.request.urlopen(address).read().decode()
        assert "mean_return" in page
        assert "width=device-width" in page
        assert not re.search(r"https?://", page), "the page needs nothing from elsewhere"
        assert urllib.request.urlopen(address + "metrics").read() == b""
        write_rows(tmp_path, {})
        assert b"wall_s" in urllib.request.urlopen(address + "metrics").read()
        use = json.loads(urllib.request.urlopen(address + "processors").read())
        assert use is None or 0 <= use <= 1
        assert urllib.request.urlopen(address + "episode.png").status == 204
        write_frames(tmp_path)
        answer = urllib.request.urlopen(address + "episode.png")
        assert answer.read().startswith(b"\x89PNG")
        assert answer.headers["Last-Modified"].endswith("GMT")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + "secrets")
        error.value.close()


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_training_prints_its_address_and_ends_it(capfd, mode):
    host = rl.HostConfig(max_updates=8, visualize=True, mode=mode, record_every=0, **SMALL)
    busy = []
    rl.train_host(jax.random.key(0), CONFIG, host, observe=lambda *interval: busy.append(interval))
    address = re.search(r"dashboard: (http://127\.0\.0\.1:\d+/)", capfd.readouterr().out)[1]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=1)
    assert children() == []
    ((start, end),) = ((a, b) for kind, a, b in busy if kind == "visualise")
    assert start < end
    if mode == "async":
        assert all(start < b and a < end for kind, a, b in busy if kind == "update")


def test_a_process_serves_it(tmp_path, capfd):
    write_rows(tmp_path, {})
    with serving(tmp_path / "metrics.jsonl", tmp_path / "episode.png"):
        address = re.search(r"dashboard: (\S+)", capfd.readouterr().out)[1]
        assert b"wall_s" in urllib.request.urlopen(address + "metrics").read()
    assert children() == []


def look(folder, address, virtual_seconds):
    """The page as a browser without a window has it after that time, by the page's clock."""
    result = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--window-size=400,800",
            f"--virtual-time-budget={1000 * virtual_seconds}",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert 'id="state"' in result.stdout, result.stderr[-500:]
    return re.sub("<script>.*</script>", "", result.stdout, flags=re.DOTALL)


def text_of(dom, name):
    return re.search(rf'id="{name}"[^>]*>([^<]*)<', dom)[1]


needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium here to open the page with")


@needs_browser
def test_a_browser_draws_curves_and_the_episode(tmp_path):
    with page_of(tmp_path) as (_, address):
        # A run that went on: its seconds start again; and a return that is not a number.
        write_rows(
            tmp_path,
            {"wall_s": 4.0, "mean_return": float("nan")},
            {"wall_s": 8.0},
            {"wall_s": 2.0, "mean_return": -200.5, "updates": 16},
        )
        write_frames(tmp_path)
        dom = look(tmp_path, address, 5)
    assert text_of(dom, "state") == "Running."
    assert "16 updates" in text_of(dom, "now")
    assert dom.count("<polyline") == 3
    assert "-1,200 to -200.5 over 10 s; now -200.5" in dom
    points = re.search(r'points="([^"]*)"', dom)[1].split()
    assert [float(point.split(",")[0]) for point in points] == [800, 1000]
    assert re.search(r'<figure id="episode">', dom), "shown, no longer hidden"
    assert 'src="blob:http://127.0.0.1' in dom


@needs_browser
def test_a_browser_is_told_of_a_run_that_stalls(tmp_path):
    write_rows(tmp_path, {})
    with page_of(tmp_path) as (_, address):
        dom = look(tmp_path, address, 90)
    assert re.match(r"Stalled: no evaluation for \d+ s\.", text_of(dom, "state"))


@needs_browser
def test_a_browser_is_told_of_a_run_that_ends(tmp_path):
    write_rows(tmp_path, {})
    with page_of(tmp_path) as (server, address):
        answer = server.RequestHandlerClass.do_GET
        asked = []

        def answer_once(handler):
            asked.append(handler.path)
            if asked.count("/processors") < 2:
                answer(handler)
            else:
                handler.close_connection = True

        server.RequestHandlerClass.do_GET = answer_once
        dom = look(tmp_path, address, 8)
    assert text_of(dom, "state").startswith("Ended: the run no longer answers.")
    assert dom.count("<polyline") == 3, "the last curves stay"


@needs_browser
def test_a_browser_says_what_it_cannot_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("no json\n")
    with page_of(tmp_path) as (_, address):
        dom = look(tmp_path, address, 5)
    assert "met an error and tries again" in text_of(dom, "state")
