"""Fits a run to the machine: batch size, samplers, and updates per call, each by measurement."""

import contextlib
import dataclasses
import threading
import time
from typing import Any

import jax
import numpy as np

from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.learner import learn_from_rows, make_learner, policy_of
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.sampler_pool import SamplerPool
from jaxlab.rl.shared_replay import ReplaySpec, SharedReplay
from jaxlab.rl.td3 import TD3Config
from jaxlab.rl.tuning import tune_batch_size, tune_samplers
from jaxlab.rl.update_rate import RateMeter
from jaxlab.rl.weight_board import WeightBoard

_SETTLE_S = 0.5  # after a change of the samplers
_CALL_S = 0.02  # a call should last at least that long
_MOST_UPDATES = 64


def autotune(
    config: SACConfig | TD3Config,
    host: HostConfig,
    *,
    batch_sizes: tuple[int, ...],
    samplers: tuple[int, ...],
    seconds: float = 0.5,
    import_module: str | None = None,
) -> tuple[HostConfig, dict[str, Any]]:
    """`host` with the batch size, samplers and updates per call that suit this machine.

    First the batch size, with nothing beside the learner; then how many updates make a call long
    enough that publishing costs little; then the samplers, beside a learner that runs.

    Args:
      config: the algorithm's.
      host: everything else about the run.
      batch_sizes, samplers: candidates, ascending.
      seconds: of each measurement.
      import_module: imported by the samplers first, to register environments.

    Returns:
      The fitted settings, and what was measured: `batch_size`, `updates_per_call` and `samplers`,
      each with its candidates' rates.
    """
    meter = RateMeter(config, seconds=seconds)
    sizes = tune_batch_size(
        lambda size: meter.measure(size, host.updates_per_call).wall, batch_sizes
    )
    call_s, updates = {}, 1
    while updates < _MOST_UPDATES:
        call_s[updates] = meter.seconds_of_a_call(sizes.best, updates)
        if call_s[updates] >= _CALL_S:
            break
        updates *= 2
    else:  # compiled here, not by the learner while the samplers are measured
        call_s[updates] = meter.seconds_of_a_call(sizes.best, updates)
    host = dataclasses.replace(host, batch_size=sizes.best, updates_per_call=updates)
    with live_rates(config, host, max(samplers), import_module) as measure:
        pools = tune_samplers(lambda n: measure(n, seconds), samplers)
    fitted = dataclasses.replace(host, n_samplers=pools.best)
    log = {
        "batch_size": {"best": sizes.best, "rows_hz": sizes.rates, "stopped": sizes.stopped},
        "updates_per_call": {"best": updates, "call_s": call_s},
        "samplers": {"best": pools.best, "sample_hz_and_update_hz": pools.rates},
    }
    return fitted, log


@contextlib.contextmanager
def live_rates(config, host: HostConfig, most: int, import_module: str | None = None):
    """A live system of at most so many samplers and a learner, until the context ends.

    Gives a function (samplers, seconds) -> (sample_hz, update_hz).
    """
    state = make_learner(config).init(jax.random.key(0))
    shard = max(host.capacity // most, host.envs_per_sampler)
    spec = ReplaySpec(shard * most, config.obs_dim, config.act_dim, most)
    with contextlib.ExitStack() as stack:
        ring = stack.enter_context(SharedReplay.create(spec))
        board = stack.enter_context(WeightBoard.create(policy_of(state)))
        board.publish(policy_of(state))
        pool = stack.enter_context(
            SamplerPool(
                ring.handle,
                board.handle,
                host.env_id,
                n_samplers=1,
                envs_per_sampler=host.envs_per_sampler,
                max_sample_hz=host.max_sample_hz,
                import_module=import_module,
            )
        )
        pool.start()
        while not ring.size():
            pool.poll()
            time.sleep(0.01)
        learner = stack.enter_context(_Learner(config, host, ring, board, state))

        def measure(samplers: int, seconds: float) -> tuple[float, float]:
            pool.resize(samplers)
            while not ring.written()[:samplers].all():
                pool.poll()
                time.sleep(0.01)
            time.sleep(_SETTLE_S)
            start, rows, updates = time.monotonic(), ring.written().sum(), learner.updates
            time.sleep(seconds)
            elapsed = time.monotonic() - start
            learner.check()
            return (
                float(ring.written().sum() - rows) / elapsed,
                max(learner.updates - updates, 1) / elapsed,
            )

        yield measure


class _Learner:
    """A thread that learns from the ring and publishes, until the context ends."""

    def __init__(self, config, host: HostConfig, ring, board, state):
        self.updates = 0
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._learn, args=(config, host, ring, board, state), daemon=True
        )

    def __enter__(self) -> "_Learner":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what the thread ended with, if it did."""
        if self._error is not None:
            raise self._error

    def _learn(self, *args) -> None:
        try:
            self._learn_until_stopped(*args)
        except Exception as error:
            self._error = error

    def _learn_until_stopped(self, config, host, ring, board, state):
        rng = np.random.default_rng(0)
        shape = host.updates_per_call, host.batch_size, -1
        while not self._stopped.is_set():
            rows = ring.sample_packed(rng, host.updates_per_call * host.batch_size)
            state, _ = learn_from_rows(jax.random.key(0), state, rows.reshape(shape), config)
            board.publish(policy_of(state))
            self.updates += host.updates_per_call
