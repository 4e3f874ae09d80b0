"""What the samplers of a learner have in common, wherever they run."""

import abc
from typing import Any

from jaxlab.rl.host_policy import LOG_STD_RANGE
from jaxlab.rl.shared_replay import ReplayHandle, SharedReplay
from jaxlab.rl.weight_board import BoardHandle

_SEED_STRIDE = 100_003  # between a slot's successive samplers, beyond any number of environments


class Pool(abc.ABC):
    """Samplers of any kind; arguments as those of `SamplerPool`, which is one."""

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
        log_std_range: tuple[float, float] = LOG_STD_RANGE,
    ):
        self._spec, self._replay_handle = replay_handle.spec, replay_handle
        self._board_handle, self._env_id = board_handle, env_id
        self._check_count(n_samplers)
        self._wanted, self._envs_per_sampler = n_samplers, envs_per_sampler
        self._seed, self._warmup_steps, self._max_sample_hz = seed, warmup_steps, max_sample_hz
        self._max_restarts, self._import_module = max_restarts, import_module
        self._log_std_range = log_std_range
        self._starts = [0] * self._spec.n_writers
        self._restarts = [0] * self._spec.n_writers
        self._replay: Any = SharedReplay.attach(replay_handle)
        try:
            self._open()
        except BaseException:
            self._replay.close()
            raise

    @abc.abstractmethod
    def _open(self) -> None:
        """Prepares what the samplers need besides; leaves nothing open if it raises."""

    @abc.abstractmethod
    def start(self) -> None:
        """Starts the samplers that do not run yet."""

    @abc.abstractmethod
    def poll(self) -> int:
        """Replaces samplers that died; returns how many were replaced so far.

        Raises:
          RuntimeError: one that was replaced too often, with its last error.
        """

    def resize(self, n: int) -> None:
        """Runs n samplers from here on.

        Raises:
          ValueError: as the constructor, or where samplers of this kind keep their number.
        """
        raise ValueError(f"{type(self).__name__} keeps its {self._wanted} samplers, got {n}")

    @abc.abstractmethod
    def stop(self, timeout: float = 5.0) -> None:
        """Ends all samplers."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _next_seed(self, slot: int) -> int:
        """That of the slot's next sampler."""
        seed = self._seed + (slot + self._spec.n_writers * self._starts[slot]) * _SEED_STRIDE
        self._starts[slot] += 1
        return seed

    def _count_death(self, slot: int, how: str) -> None:
        """Raises RuntimeError that says how it died, where it did so too often."""
        if self._restarts[slot] >= self._max_restarts:
            raise RuntimeError(
                f"sampler {slot} died {self._restarts[slot] + 1} times, at last with {how}"
            )
        self._restarts[slot] += 1

    def _check_count(self, n: int) -> None:
        most = self._spec.n_writers
        if not 1 <= n <= most:
            raise ValueError(f"n_samplers must lie in 1..{most}, the ring's n_writers, got {n}")
