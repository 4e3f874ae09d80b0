"""The process that shows the curves: `python -m jaxlab.rl.dashboard`, a page on this machine.

Writes the page's address to standard output, then serves until it is told to end.
"""

import contextlib
import email.utils
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jaxlab.rl.child_process import ChildProcess, read_settings
from jaxlab.rl.processor_use import ProcessorUse
from jaxlab.rl.stop_words import StopHandle, StopWords

_LOOK_S = 0.2


class DashboardSettings(NamedTuple):
    """What the dashboard is told.

    Attributes:
      metrics: the file of evaluations, which need not exist yet.
      episode: the picture of an episode, likewise.
      stop: where to look for the end (its first flag).
      parent: the process without which it ends.
    """

    metrics: str
    episode: str
    stop: StopHandle
    parent: int


@contextlib.contextmanager
def serving(
    metrics: Path, episode: Path, observe: Callable[[str, float, float], None] | None = None
) -> Iterator[None]:
    """A process that serves the page meanwhile; its address is printed.

    `observe`, if given, is told "visualise" and from when to when it did, unless it died.
    """
    stop = StopWords.create(1)
    settings = DashboardSettings(str(metrics), str(episode), stop.handle, os.getpid())
    process = ChildProcess("jaxlab.rl.dashboard", settings)
    try:
        print(f"dashboard: {process.stdout.readline().decode().strip()}", flush=True)
        start = time.monotonic()
        yield
        if observe is not None and process.exit_code() is None:
            observe("visualise", start, time.monotonic())
    finally:
        stop.raise_all()
        process.end(timeout=5.0)
        stop.close()


def make_server(metrics: str, episode: str) -> http.server.ThreadingHTTPServer:
    """A server on a free port of 127.0.0.1.

    `/` is the page, `/metrics` the file, `/episode.png` the picture (no content before there is
    one), `/processors` how busy they are since the last request (JSON, a share or null).
    """
    page = (resources.files("jaxlab.rl") / "dashboard.html").read_bytes()
    processors = ProcessorUse()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/":
                self._answer("text/html; charset=utf-8", page)
            elif self.path == "/metrics":
                file = Path(metrics)
                self._answer("text/plain", file.read_bytes() if file.exists() else b"")
            elif self.path == "/processors":
                self._answer("application/json", json.dumps(processors.look()).encode())
            elif self.path == "/episode.png":
                self._picture(Path(episode))
            else:
                self.send_error(404)

        def log_message(self, *args):
            """Says nothing of each request."""

        def _picture(self, file):
            if not file.exists():
                self.send_response(204)
                self.end_headers()
                return
            made = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
            self._answer("image/png", file.read_bytes(), {"Last-Modified": made})

        def _answer(self, kind, content, headers=()):
            self.send_response(200)
            sizes = {"Content-Type": kind, "Content-Length": str(len(content))}
            for name, value in (sizes | dict(headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def serve(settings: DashboardSettings) -> None:
    """Serves until the flag is up or the parent is gone."""
    stop = StopWords.attach(settings.stop)
    with make_server(settings.metrics, settings.episode) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        waiting = threading.Event()
        while not stop.is_raised(0) and os.getppid() == settings.parent:
            waiting.wait(_LOOK_S)
        server.shutdown()


if __name__ == "__main__":
    serve(read_settings())
