import math
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from jaxlab.rl.studies import processor_meter
from jaxlab.rl.studies.processor_meter import ProcessorMeter, spent_between, take_look
from jaxlab.runs.environment import processor_count
from tests.rl.waiting import wait_until

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"


needs_proc = pytest.mark.skipif(
    not pathlib.Path("/proc/self/schedstat").exists(), reason="no /proc here"
)


@needs_proc
def test_children_count_and_the_start_does_not():
    meter = ProcessorMeter()
    assert all(map(math.isnan, meter.shares().values()))
    meter.look("sample", 0.0, 1.0)
    meter.look("update", 0.0, time.monotonic())
    before = take_look()
    # A name as the samplers have it.
    command = [sys.executable, "-c", BUSY, "jaxlab.rl.sampler"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"done\n"
        wait_until(lambda: time.monotonic() > before.now + 0.5)
        meter.look("update", 0.0, time.monotonic())
        spent = spent_between(before, take_look())
        child.kill()
    assert spent.wanted >= spent.used >= spent.sampling >= 0.45
    assert spent.passed >= 0.5
    shares = meter.shares()
    assert 0 < shares["use"] <= 1.05
    assert shares["demand"] >= shares["use"]
    assert 0 < shares["sampler_s"] <= 1.05


@needs_proc
def test_a_thread_that_ends_takes_nothing_back():
    busy, end = threading.Event(), threading.Event()

    def work():
        while time.thread_time() < 0.2:
            pass
        busy.set()
        end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    busy.wait()
    before = take_look()
    end.set()
    thread.join()
    wait_until(lambda: thread.native_id not in take_look().threads)
    spent = spent_between(before, take_look())
    assert before.threads[thread.native_id].ran >= 0.15
    assert spent.used >= 0


def test_a_system_that_does_not_say_gives_no_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(processor_meter, "_PROC", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    meter = ProcessorMeter()
    meter.look("update", 0.0, 0.0)
    meter.look("update", 0.0, time.monotonic() + 1.0)
    assert all(map(math.isnan, meter.shares().values()))
    assert processor_count() == os.cpu_count()
