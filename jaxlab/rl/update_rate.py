"""How fast the learner is, with random rows and nothing beside it."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.rl.learner import learn_from_rows, make_learner
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.shared_replay import ReplaySpec
from jaxlab.rl.td3 import TD3Config

_REPEATS = 3


class UpdateRate(NamedTuple):
    """Rows learned from per second of wall and of processor time."""

    wall: float
    cpu: float


class RateMeter:
    """Measures `learn_from_rows` at any batch size; compiles each size once."""

    def __init__(self, config: SACConfig | TD3Config, seed: int = 0, seconds: float = 0.5):
        self._config, self._seconds = config, seconds
        self._rng = np.random.default_rng(seed)
        self._state: Any = make_learner(config).init(jax.random.key(seed))
        self._blocks: dict[tuple[int, int], jax.Array] = {}

    def measure(self, batch_size: int, updates: int) -> UpdateRate:
        """Medians over three stretches of `updates` fused updates of `batch_size` rows."""
        wall, cpu = [], []
        self.seconds_of_a_call(batch_size, updates)
        for _ in range(_REPEATS):
            count, start, start_cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - start < self._seconds:
                self._call(batch_size, updates)
                count += updates * batch_size
            wall.append(count / (time.perf_counter() - start))
            cpu.append(count / max(time.process_time() - start_cpu, 1e-9))
        return UpdateRate(float(np.median(wall)), float(np.median(cpu)))

    def seconds_of_a_call(self, batch_size: int, updates: int) -> float:
        """Of one call that is already compiled."""
        self._call(batch_size, updates)
        start = time.perf_counter()
        self._call(batch_size, updates)
        return time.perf_counter() - start

    def _call(self, batch_size: int, updates: int) -> None:
        shape = updates, batch_size
        if shape not in self._blocks:
            width = ReplaySpec(1, self._config.obs_dim, self._config.act_dim).width
            rows = self._rng.normal(size=(*shape, width)).astype(np.float32)
            rows[..., -1] = 0
            self._blocks[shape] = jax.device_put(rows)
        key = jax.random.key(0)
        self._state, _ = learn_from_rows(key, self._state, self._blocks[shape], self._config)
        jax.block_until_ready(self._state.step)
