"""The learner's loop beside processes that sample and evaluate."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.rl.adaptation import SamplerTrials
from jaxlab.rl.data_parallel import largest_over_processes
from jaxlab.rl.evaluator_process import EvaluatorProcess
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.host_policy import log_std_range_of
from jaxlab.rl.host_state import (
    DRAW,
    EVALUATE,
    SAMPLE,
    UPDATE,
    HostState,
    mean_return,
    ring_spec,
    seed_of,
)
from jaxlab.rl.interrupts import deferred_signals
from jaxlab.rl.learner import policy_of
from jaxlab.rl.placement import Placement, make_placement
from jaxlab.rl.pool import Pool
from jaxlab.rl.prefetch import Prefetcher
from jaxlab.rl.progress_log import ProgressLog
from jaxlab.rl.ray_samplers import RaySamplerPool
from jaxlab.rl.recorder import RecordSettings
from jaxlab.rl.sampler_pool import SamplerPool
from jaxlab.rl.shared_replay import SharedReplay
from jaxlab.rl.stopping import (
    REASONS,
    check_losses,
    must_wait,
    reason_to_stop,
    updates_of_next_call,
)
from jaxlab.rl.weight_board import WeightBoard

# What was busy ("update", "sample", "evaluate", "visualise"), from when, and to when, by the
# monotonic clock.
Observer = Callable[[str, float, float], None]

_WATCH_S = 0.5  # between looks at the samplers
_IDLE_S = 0.002


def ignore(what: str, start: float, end: float) -> None:
    """Observes nothing."""


def train_async(
    state: HostState,
    config,
    host: HostConfig,
    log: ProgressLog,
    keep: Callable[[HostState], None],
    import_module: str | None = None,
    observe: Observer = ignore,
    pictures: RecordSettings | None = None,
    ray_address: str | None = None,
) -> tuple[HostState, int, str]:
    """Trains from `state` until `host` says when.

    Args:
      state: where to start.
      config: the algorithm's.
      host: processes, sizes and ends.
      log: takes the evaluations.
      keep: is handed the state when a checkpoint is due, at the end, and after a signal.
      import_module: imported by the processes first.
      observe: told what was busy from when to when.
      pictures: which episodes are drawn; None for none.
      ray_address: of the Ray cluster whose machines sample (see `RaySamplerPool`); None for
        processes on this one.

    Returns:
      The last state, samplers that were replaced, and what ended it.
    """
    placement = make_placement(config, host.mode, host.batch_size)
    with deferred_signals() as interrupted:
        with contextlib.ExitStack() as stack:
            ring = stack.enter_context(SharedReplay.create(ring_spec(config, host)))
            if state.ring is not None:
                ring.load_state_dict(state.ring)
            board = stack.enter_context(WeightBoard.create(policy_of(state.learner)))
            board.continue_from(state.version)
            board.publish(policy_of(state.learner))
            pool = stack.enter_context(
                _start_samplers(ring, board, state, config, host, import_module, ray_address)
            )
            evaluator = stack.enter_context(_evaluator(board, state, host, import_module, pictures))
            parts = _Parts(placement, ring, board, pool, evaluator, log, keep, observe, interrupted)
            learner = _Loop(state, host, parts)
            stopped = learner.run()
            restarts = pool.poll()
            pool.stop()
            final = learner.snapshot()
            if stopped != "interrupted":
                log.add(final.env_steps, final.updates, mean_return(final, host))
        keep(final)
    return final, restarts, stopped


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What the loop works with, open as long as it runs; see `train_async`."""

    placement: Placement
    ring: SharedReplay
    board: WeightBoard
    pool: Pool
    evaluator: EvaluatorProcess | None
    log: ProgressLog
    keep: Callable[[HostState], None]
    observe: Observer
    interrupted: Callable[[], bool]


class _Call(NamedTuple):
    """A call of the learner: its metrics, the updates by then, its policy where that is due."""

    metrics: Any
    updates: int
    policy: Any


class _Loop:
    """Draws, learns, publishes and watches, in the parent."""

    def __init__(self, state: HostState, host: HostConfig, parts: _Parts):
        self._start, self._host, self._parts = state, host, parts
        self._learner, self._updates = parts.placement.spread(state.learner), state.updates
        self._known_rows = int(parts.ring.written().sum())
        self._watched = self._saved = time.monotonic()
        self._calls = 0
        self._last: _Call | None = None  # which may still be running
        self._looked, self._seen_rows = time.monotonic(), self._known_rows
        # What this process does of each update.
        self._share = dataclasses.replace(host, batch_size=host.batch_size // jax.process_count())
        self._samplers = host.n_samplers
        self._trials = SamplerTrials(host.n_samplers, host.most_samplers)

    def run(self) -> str:
        """Until the end; what ended it."""
        host = self._host
        rng = np.random.default_rng(seed_of(self._start, DRAW))
        update_key = jax.random.fold_in(self._start.key, UPDATE)
        blocks = None
        with contextlib.ExitStack() as stack:
            while True:
                reason, ready = self._decide(self._attend())
                if reason:
                    break
                if not ready:
                    self._finish_last()  # its policy is not to wait for the next call
                    time.sleep(_IDLE_S)
                    continue
                if blocks is None:
                    blocks = stack.enter_context(
                        Prefetcher(
                            self._parts.ring, rng, host.updates_per_call, self._share.batch_size
                        )
                    )
                rows = blocks.next()[: updates_of_next_call(host, self._updates)]
                key = jax.random.fold_in(update_key, self._updates)
                start, previous = time.monotonic(), self._last
                self._learner, metrics = self._parts.placement.learn(key, self._learner, rows)
                self._updates += len(rows)
                self._calls += 1
                due = self._calls % host.publish_every == 0
                policy = self._parts.placement.policy(self._learner) if due else None
                self._last = _Call(metrics, self._updates, policy)
                # While this call runs: the device does not wait for the host.
                self._finish(previous)
                if self._calls == 1:  # which compiled: rates count from its end
                    self._finish_last()
                    self._parts.log.measure_from(self._env_steps(), self._updates)
                self._parts.observe("update", start, time.monotonic())
        self._finish_last()
        self._parts.log.measure_to(self._env_steps(), self._updates)
        return reason

    def _decide(self, reason: str | None) -> tuple[str | None, bool]:
        """Why to stop, and whether to learn now; saves where that is due. All processes agree."""
        host = self._host
        ready = self._env_steps() >= host.warmup_steps and self._parts.ring.size() > 0
        ready = ready and not must_wait(self._share, self._env_steps(), self._updates)
        due = time.monotonic() - self._saved >= host.checkpoint_every_s
        number, missing, due = largest_over_processes([REASONS.index(reason), not ready, due])
        if due:
            self._saved = time.monotonic()
            self._finish_last()  # what is kept replaces the last good one
            self._parts.keep(self.snapshot())
        return REASONS[number], not missing

    def _finish_last(self) -> None:
        """Waits for the last call."""
        self._finish(self._last)
        self._last = None

    def _finish(self, call: _Call | None) -> None:
        """Looks at its losses, and publishes its policy.

        Raises FloatingPointError where a loss is not finite.
        """
        if call is None:
            return
        check_losses(call.metrics, call.updates)
        if call.policy is not None:
            self._parts.board.publish(jax.device_get(call.policy))

    def snapshot(self) -> HostState:
        """The run as it is now."""
        contents = self._parts.ring.state_dict() if self._host.checkpoint_replay else None
        return HostState(
            self._parts.placement.gather(self._learner),
            self._env_steps(),
            self._updates,
            self._parts.board.version(),
            self._start.key,
            contents,
        )

    def _env_steps(self) -> int:
        return self._start.env_steps + int(self._parts.ring.written().sum()) - self._known_rows

    def _attend(self) -> str | None:
        """Takes evaluations in and watches the samplers; the reason to stop if there is one."""
        self._hear_evaluator()
        now = time.monotonic()
        rows = int(self._parts.ring.written().sum())
        if rows > self._seen_rows:
            self._parts.observe("sample", self._looked, now)
        self._looked, self._seen_rows = now, rows
        if now - self._watched >= _WATCH_S:
            self._watched = now
            self._parts.pool.poll()
            if self._parts.evaluator is not None:
                self._parts.evaluator.watch()
            self._fit_samplers(now)
        if self._parts.interrupted():
            return "interrupted"
        return reason_to_stop(self._host, self._parts.log, self._updates)

    def _hear_evaluator(self) -> None:
        if self._parts.evaluator is None:
            return
        for report in self._parts.evaluator.reports():
            if "said" in report:
                print(report["said"], flush=True)
                continue
            self._parts.log.add(self._env_steps(), self._updates, report["mean_return"])
            self._parts.observe("evaluate", report["start"], report["end"])

    def _fit_samplers(self, now: float) -> None:
        """Once the learner is at work."""
        if self._host.max_samplers is None or not self._updates:
            return
        wanted = self._trials.look(now, self._env_steps(), self._updates)
        if wanted != self._samplers:
            self._parts.pool.resize(wanted)
            self._samplers = wanted


def _start_samplers(ring, board, state, config, host: HostConfig, import_module, ray_address):
    make_pool = SamplerPool
    if ray_address:
        make_pool = functools.partial(RaySamplerPool, address=ray_address)
    # In rows of this ring: a run that goes on does not warm up again.
    warmup_steps = int(ring.written().sum()) + max(host.warmup_steps - state.env_steps, 0)
    pool = make_pool(
        ring.handle,
        board.handle,
        host.env_id,
        n_samplers=host.n_samplers,
        envs_per_sampler=host.envs_per_sampler,
        seed=seed_of(state, SAMPLE),
        warmup_steps=warmup_steps,
        max_sample_hz=host.max_sample_hz,
        import_module=import_module,
        log_std_range=log_std_range_of(config),
    )
    pool.start()
    return pool


def _evaluator(board, state, host: HostConfig, import_module, pictures):
    """The evaluator; of several processes the first has one, for the policy is the same in all."""
    if jax.process_index():
        return contextlib.nullcontext()
    return EvaluatorProcess(
        board.handle,
        host.env_id,
        host.eval_episodes,
        seed_of(state, EVALUATE),
        host.eval_every_s,
        import_module,
        pictures,
    )
