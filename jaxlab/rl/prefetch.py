"""Draws the next rows from the ring while the device works on the last ones."""

import queue
import threading

import jax
import numpy as np

from jaxlab.rl.shared_replay import SharedReplay

_POLL = 0.1  # seconds


class Prefetcher:
    """A thread that keeps one block `[U, B, D]` ready on the device; a context manager."""

    def __init__(self, ring: SharedReplay, rng: np.random.Generator, updates: int, batch_size: int):
        self._ready: queue.Queue = queue.Queue(maxsize=1)
        self._stopped = threading.Event()
        args = (ring, rng, updates, batch_size)
        self._thread = threading.Thread(target=self._draw, args=args, daemon=True)
        self._thread.start()

    def next(self) -> jax.Array:
        """The next block. Raises what drawing it raised."""
        block = self._ready.get()
        if isinstance(block, Exception):
            raise block
        return block

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()
        self._thread.join()

    def _draw(self, ring, rng, updates, batch_size):
        while not self._stopped.is_set():
            try:
                rows = ring.sample_packed(rng, updates * batch_size)
                block = jax.device_put(rows.reshape(updates, batch_size, -1))
            except Exception as error:  # handed to the caller of `next`
                block = error
            while not self._stopped.is_set():
                try:
                    self._ready.put(block, timeout=_POLL)
                    break
                except queue.Full:
                    continue
