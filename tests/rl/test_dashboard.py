import json
import re
import threading
import urllib.error
import urllib.request

import jax
import pytest

from jaxlab import rl
from jaxlab.rl.dashboard import make_server
from tests.rl.test_host import CONFIG, SMALL, children


def test_page_and_metrics(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    with make_server(str(metrics)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        page = urllib.request.urlopen(address).read().decode()
        assert "mean_return" in page
        assert not re.search(r"https?://", page), "the page needs nothing from elsewhere"
        assert urllib.request.urlopen(address + "metrics").read() == b""
        metrics.write_text('{"wall_s": 1.0}\n')
        assert b"wall_s" in urllib.request.urlopen(address + "metrics").read()
        use = json.loads(urllib.request.urlopen(address + "processors").read())
        assert use is None or 0 <= use <= 1
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + "secrets")
        error.value.close()
        server.shutdown()


def test_training_prints_its_address_and_ends_it(capfd):
    host = rl.HostConfig(max_updates=8, visualize=True, **SMALL)
    rl.train_host(jax.random.key(0), CONFIG, host)
    address = re.search(r"dashboard: (http://127\.0\.0\.1:\d+/)", capfd.readouterr().out)[1]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=1)
    assert children() == []
