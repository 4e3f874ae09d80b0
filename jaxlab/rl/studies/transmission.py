"""C2: how many transitions one process hands to another per second, by ring and by Queue."""

import multiprocessing
import os
import time

import numpy as np

from jaxlab.rl import figures
from jaxlab.rl.shared_replay import ReplaySpec, SharedReplay, unpack
from jaxlab.rl.studies.queue_consumer import consume
from jaxlab.runs import Claim, Run, holds

BLOCKS = (1, 16, 64)
_OBS, _ACT = 17, 6  # HalfCheetah: 42 floats a row


def measure(config, run: Run) -> list[Claim]:
    """Rates of both by block size."""
    rates = run.once(
        "transmission",
        lambda: _rates(config.transmission_seconds, config.transmission_rounds),
    )
    run.figure("transmission", figures.transmission(BLOCKS, rates))
    ratio = rates["ring"] / rates["queue"]
    listed = "; ".join(
        f"{k} rows: {a:,.0f} against {b:,.0f} rows/s ({r:.1f}x)"
        for k, a, b, r in zip(BLOCKS, rates["ring"], rates["queue"], ratio, strict=True)
    )
    return [
        Claim(
            "C2",
            "Efficient transmission of experience between processes",
            "",
            f"{ratio[1]:.1f}x a Queue in blocks of 16",
            holds(ratio[1] >= 3),
            detail=f"Rows of 42 floats, one writer, by block: {listed}; best of "
            f"{config.transmission_rounds} rounds on both sides. Load average "
            f"{rates['load']:.1f}. Criterion: >= 3x at blocks of 16.",
        )
    ]


def _rates(seconds: float, rounds: int) -> dict:
    """The best of both sides' rounds, which take turns: either may meet a bad one."""
    by_ring, by_queue = np.zeros((2, rounds, len(BLOCKS)))
    for i, block in enumerate(BLOCKS):
        rows = np.random.default_rng(0).normal(size=(block, 2 * _OBS + _ACT + 2))
        batch = unpack(rows.astype(np.float32), ReplaySpec(1, _OBS, _ACT))
        for j in range(rounds):
            by_ring[j, i] = _ring_rate(batch, block, seconds)
            by_queue[j, i] = _queue_rate(batch, block, seconds)
    return {
        "ring": by_ring.max(axis=0),
        "queue": by_queue.max(axis=0),
        "load": np.array(os.getloadavg()[0]),
    }


def _ring_rate(batch, block: int, seconds: float) -> float:
    with SharedReplay.create(ReplaySpec(65_536, _OBS, _ACT)) as ring:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            ring.write(0, batch)
            count += block
        return count / (time.perf_counter() - start)


def _queue_rate(batch, block: int, seconds: float) -> float:
    """From the first put until the other process has taken the last."""
    context = multiprocessing.get_context("spawn")
    queue, done = context.Queue(maxsize=1000), context.Queue()
    consumer = context.Process(target=consume, args=(queue, done), daemon=True)
    consumer.start()
    queue.put(batch)
    while not queue.empty():  # until the other side has started
        time.sleep(0.01)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        queue.put(batch)
        count += block
    queue.put(None)
    done.get()
    rate = count / (time.perf_counter() - start)
    consumer.join()
    return rate
