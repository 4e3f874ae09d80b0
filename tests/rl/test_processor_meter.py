import math
import os
import pathlib
import subprocess
import sys
import time

import pytest

from jaxlab.rl.studies import processor_meter
from jaxlab.rl.studies.processor_meter import ProcessorMeter, read_use
from jaxlab.runs.environment import processor_count
from tests.rl.waiting import wait_until

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"


@pytest.mark.skipif(not pathlib.Path("/proc/self/schedstat").exists(), reason="no /proc here")
def test_children_count_and_the_start_does_not():
    meter = ProcessorMeter()
    assert all(map(math.isnan, meter.shares().values()))
    meter.look("sample", 0.0, 1.0)
    meter.look("update", 0.0, time.monotonic())
    before = read_use()
    # A name as the samplers have it.
    command = [sys.executable, "-c", BUSY, "jaxlab.rl.sampler"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"done\n"
        wait_until(lambda: read_use().now > before.now + 0.5)
        meter.look("update", 0.0, time.monotonic())
        use = read_use()
        child.kill()
    assert use.used - before.used >= use.sampling - before.sampling >= 0.45
    assert use.wanted - before.wanted >= use.used - before.used
    shares = meter.shares()
    assert 0 < shares["use"] <= 1.05
    assert shares["demand"] >= shares["use"]
    assert 0 < shares["sampler_s"] <= 1.05


def test_a_system_that_does_not_say_gives_no_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(processor_meter, "_PROC", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    meter = ProcessorMeter()
    meter.look("update", 0.0, 0.0)
    meter.look("update", 0.0, time.monotonic() + 1.0)
    assert all(map(math.isnan, meter.shares().values()))
    assert processor_count() == os.cpu_count()
