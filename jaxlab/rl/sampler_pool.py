"""The samplers of a learner as processes: started, watched, started again, and stopped."""

import os
from typing import Any

from jaxlab.rl.child_process import ChildProcess
from jaxlab.rl.pool import Pool
from jaxlab.rl.sampler import SamplerSettings
from jaxlab.rl.stop_words import StopWords


class SamplerPool(Pool):
    """Processes that fill a ring with the newest policy on the board; sampler i owns shard i.

    Use as a context manager, or call `stop`.

    Args:
      replay_handle, board_handle: where to write and what to act with.
      env_id: see `make_vec_env`.
      n_samplers: how many, at most the ring's writers.
      envs_per_sampler: environments that each steps.
      seed: of environments and exploration.
      warmup_steps: transitions, of all together, by uniformly random actions.
      max_sample_hz: transitions per second of each at most.
      max_restarts: how often a sampler that died is replaced.
      import_module: imported by each first, to register environments.
      log_std_range: least and largest log standard deviation of the policy.

    Raises:
      ValueError: more samplers than the ring has writers, or fewer than one.
    """

    def _open(self) -> None:
        self._stop: Any = StopWords.create(self._spec.n_writers)
        self._samplers: dict[int, ChildProcess] = {}

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
            self._count_death(slot, f"exit code {code}:\n{error}")
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

    def _launch(self, slot: int) -> None:
        settings = SamplerSettings(
            self._replay_handle,
            self._board_handle,
            self._stop.handle,
            slot,
            self._env_id,
            self._envs_per_sampler,
            self._next_seed(slot),
            self._warmup_steps,
            self._max_sample_hz,
            self._import_module,
            self._log_std_range,
            os.getpid(),
        )
        self._samplers[slot] = ChildProcess("jaxlab.rl.sampler", settings, heard=False)
