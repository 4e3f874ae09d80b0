"""The samplers of a learner: started, watched, started again, and stopped."""

import os
from typing import Any

from jaxlab.rl.child_process import ChildProcess
from jaxlab.rl.sampler import SamplerSettings
from jaxlab.rl.shared_replay import ReplayHandle, SharedReplay
from jaxlab.rl.stop_words import StopWords
from jaxlab.rl.weight_board import BoardHandle

SEED_STRIDE = 100_003  # between a slot's successive samplers, beyond any number of environments


class SamplerPool:
    """Processes that fill a ring with the newest policy on the board; sampler i owns shard i.

    Use as a context manager, or call `stop`.

    Args:
      replay_handle, board_handle: where to write and what to act with.
      env_id: see `make_vec_env`.
      n_samplers: processes, at most the ring's writers.
      envs_per_sampler: environments that each steps.
      seed: of environments and exploration.
      warmup_steps: transitions, of all together, by uniformly random actions.
      max_sample_hz: transitions per second of each at most.
      max_restarts: how often a sampler that died is replaced.
      import_module: imported by each first, to register environments.

    Raises:
      ValueError: more samplers than the ring has writers, or fewer than one.
    """

    def __init__(
        self,
        replay_handle: ReplayHandle,
        board_handle: BoardHandle,
        env_id: str,
        *,
        n_samplers: int,
        envs_per_sampler: int,
        seed: int = 0,
        warmup_steps: int = 0,
        max_sample_hz: float | None = None,
        max_restarts: int = 3,
        import_module: str | None = None,
    ):
        self._slots = replay_handle.spec.n_writers
        self._check_count(n_samplers)
        self._wanted = n_samplers
        self._max_restarts = max_restarts
        self._replay = SharedReplay.attach(replay_handle)
        self._stop: Any = StopWords.create(self._slots)
        self._template = SamplerSettings(
            replay_handle,
            board_handle,
            self._stop.handle,
            0,
            env_id,
            envs_per_sampler,
            seed,
            warmup_steps,
            max_sample_hz,
            import_module,
            os.getpid(),
        )
        self._samplers: dict[int, ChildProcess] = {}
        self._starts = [0] * self._slots
        self._restarts = [0] * self._slots

    def start(self) -> None:
        """Starts the samplers that do not run yet."""
        for slot in range(self._wanted):
            if slot not in self._samplers:
                self._launch(slot)

    def pids(self) -> list[int]:
        """Process numbers, by slot."""
        return [self._samplers[slot].pid for slot in sorted(self._samplers)]

    def poll(self) -> int:
        """Replaces samplers that died; returns how many were replaced so far.

        Raises:
          RuntimeError: one that was replaced too often, with its exit code and last error.
        """
        for slot, sampler in list(self._samplers.items()):
            code = sampler.exit_code()
            if code is None:
                continue
            error = sampler.last_error()
            sampler.end(timeout=1.0)
            del self._samplers[slot]
            if self._restarts[slot] >= self._max_restarts:
                raise RuntimeError(
                    f"sampler {slot} died {self._restarts[slot] + 1} times, "
                    f"at last with exit code {code}:\n{error}"
                )
            self._restarts[slot] += 1
            self._launch(slot)
        return sum(self._restarts)

    def resize(self, n: int) -> None:
        """Runs n samplers from here on; the shards of those that end become invalid.

        Raises:
          ValueError: as the constructor.
        """
        self._check_count(n)
        self._wanted = n
        for slot in [slot for slot in self._samplers if slot >= n]:
            self._stop.put(slot, True)
            self._samplers.pop(slot).end(timeout=5.0)
            self._stop.put(slot, False)
            self._replay.retire(slot)
        self.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends all samplers: asks, terminates after `timeout` seconds, then kills."""
        if self._stop is None:
            return
        self._stop.raise_all()
        for sampler in self._samplers.values():
            sampler.end(timeout)
        self._samplers.clear()
        self._stop.close()
        self._replay.close()
        self._stop = None

    def __enter__(self) -> "SamplerPool":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _launch(self, slot: int) -> None:
        seed = self._template.seed + (slot + self._slots * self._starts[slot]) * SEED_STRIDE
        self._starts[slot] += 1
        settings = self._template._replace(slot=slot, seed=seed)
        self._samplers[slot] = ChildProcess("jaxlab.rl.sampler", settings)

    def _check_count(self, n: int) -> None:
        if not 1 <= n <= self._slots:
            raise ValueError(
                f"n_samplers must lie in 1..{self._slots}, the ring's n_writers, got {n}"
            )
