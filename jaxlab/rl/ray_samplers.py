"""Samplers on other machines: Ray places them, and the learner's host puts their rows in its ring.

Each actor steps its environments with the newest policy and answers with a block of packed rows
through Ray's object store; a thread here writes the blocks, asks for the next, and sends out each
version of the policy once. Nothing else of a training knows where its rows come from.
"""

import importlib
import math
import threading
import time
import warnings
from typing import Any

import numpy as np

from jaxlab.rl.child_process import ONE_THREAD
from jaxlab.rl.pool import Pool
from jaxlab.rl.sampler import action_rng, take_step
from jaxlab.rl.shared_replay import pack, unpack
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.rl.weight_board import WeightBoard

_BLOCK = 1000  # rows of an answer at least: a small one costs as much to send
_ASKED = 2  # blocks that an actor owes at any time, so that it never waits
_WAIT_S = 0.1


class RemoteSampler:
    """What an actor does: environments that go on from block to block."""

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        seed: int,
        max_sample_hz: float | None,
        import_module: str | None,
        log_std_range: tuple[float, float],
    ):
        if import_module:
            importlib.import_module(import_module)
        self._env = make_vec_env(env_id, n_envs, seed)
        self._rng, self._log_std_range = action_rng(seed), log_std_range
        self._obs, self._steps = self._env.reset(), 0
        self._max_sample_hz, self._start = max_sample_hz, time.monotonic()

    def collect(self, params, steps: int) -> np.ndarray:
        """`[steps * n_envs, D]` rows with a policy, or with random actions where it is None.

        Raises:
          FloatingPointError: as `take_step`.
        """
        rows = []
        for _ in range(steps):
            batch, self._obs = take_step(
                self._env, self._obs, params, self._rng, self._steps, self._log_std_range
            )
            rows.append(pack(batch))
            self._steps += 1
        if self._max_sample_hz:
            due = self._start + self._steps * self._env.n_envs / self._max_sample_hz
            time.sleep(max(due - time.monotonic(), 0))
        return np.concatenate(rows)


class RaySamplerPool(Pool):
    """`SamplerPool` with samplers on the machines of a Ray cluster; further arguments as there.

    Args:
      address: of the cluster, as `ray.init` takes it: "auto", "HOST:PORT", "ray://...", or "local"
        to start one on this machine. A process that has already joined a cluster uses that one.

    Raises:
      ImportError: ray is missing.
      ConnectionError: no cluster at that address.
      ValueError: more samplers than the ring has writers or the cluster processors.
    """

    def __init__(self, *where: Any, address: str, **settings: Any):
        self._address = address
        super().__init__(*where, **settings)

    def _open(self) -> None:
        self._ray = _import_ray()
        self._joined = not self._ray.is_initialized()
        if self._joined:
            join_cluster(self._address)
        processors = int(self._ray.cluster_resources().get("CPU", 0))
        if self._wanted > processors:
            self._leave()
            raise ValueError(
                f"n_samplers is {self._wanted}, and the Ray cluster has {processors} processors"
            )
        n_envs = self._envs_per_sampler
        self._steps = min(math.ceil(_BLOCK / n_envs), self._spec.shard // n_envs)
        self._board = WeightBoard.attach(self._board_handle)
        self._actor = self._ray.remote(num_cpus=1, runtime_env={"env_vars": ONE_THREAD})(
            RemoteSampler
        )
        self._failure: Exception | None = None
        self._sent: tuple[int, object] = (0, None)  # version of the policy, and its reference
        self._stopped = threading.Event()
        self._receiver = threading.Thread(target=self._receive, daemon=True)

    def start(self) -> None:
        """Starts the samplers."""
        self._receiver.start()

    def poll(self) -> int:
        """How many samplers were replaced so far, after their death or that of their machine.

        Raises:
          RuntimeError: one that was replaced too often, with its last error.
        """
        if self._failure is not None:
            raise self._failure
        return sum(self._restarts)

    def stop(self, timeout: float = 5.0) -> None:
        """Ends all samplers, and leaves the cluster if this pool joined it."""
        if self._replay is None:
            return
        self._stopped.set()
        if self._receiver.ident is not None:
            self._receiver.join()
        self._leave()
        self._replay.close()
        self._board.close()
        self._replay = None

    def _leave(self) -> None:
        if self._joined:
            self._ray.shutdown()

    def _receive(self) -> None:
        """The thread; what it raises is kept for `poll`."""
        actors = {}
        try:
            self._exchange(actors)
        except Exception as error:  # of this thread, which nobody watches
            self._failure = error
        for actor in actors.values():
            self._ray.kill(actor)

    def _exchange(self, actors: dict) -> None:
        """Asks, waits for any answer, writes it, asks again."""
        ray, owed = self._ray, {}

        def ask(slot):
            owed[actors[slot].collect.remote(self._policy(), self._steps)] = slot

        def begin(slot):
            actors[slot] = self._place(slot)
            for _ in range(_ASKED):
                ask(slot)

        for slot in range(self._wanted):
            begin(slot)
        while not self._stopped.is_set():
            answered, _ = ray.wait(list(owed), timeout=_WAIT_S)
            for answer in answered:
                slot = owed.pop(answer)
                try:
                    rows = ray.get(answer)
                except ray.exceptions.RayError as error:
                    self._count_death(slot, f"{type(error).__name__}:\n{error}")
                    ray.kill(actors[slot])
                    owed = {other: owner for other, owner in owed.items() if owner != slot}
                    begin(slot)
                    continue
                self._replay.write(slot, unpack(rows, self._spec))
                ask(slot)

    def _place(self, slot: int):
        return self._actor.remote(
            self._env_id,
            self._envs_per_sampler,
            self._next_seed(slot),
            self._max_sample_hz,
            self._import_module,
            self._log_std_range,
        )

    def _policy(self):
        """The newest policy in the object store, put there once a version; None in the warm-up."""
        if self._replay.written().sum() < self._warmup_steps:
            return None
        if self._board.version() != self._sent[0]:
            version, params = self._board.read()
            self._sent = version, self._ray.put(params)
        return self._sent[1]


def join_cluster(address: str, **settings) -> None:
    """`ray.init`; a cluster started here, by "local", can be reached from this machine alone."""
    ray = _import_ray()
    if address == "local":
        settings = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} | settings
    with warnings.catch_warnings():
        # Ray starts its processes by a fork that becomes another program at once.
        warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
        ray.init(address, log_to_driver=False, **settings)


def _import_ray():
    try:
        import ray
    except ImportError as error:
        raise ImportError('ray is missing: pip install "jaxlab[ray]"') from error
    return ray
