"""Training with environments on the host: asynchronous processes, or all in turn.

The parent learns. Samplers fill the ring, an evaluator tests the newest policy, a dashboard shows
the curves, each in a process of its own, and none waits for another.
"""

import contextlib
import functools
import importlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxlab.rl import dashboard
from jaxlab.rl.async_training import Observer, ignore, train_async
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.host_state import (
    HostState,
    checkpoint_folder,
    fresh_state,
    restore_state,
    ring_spec,
    save_state,
)
from jaxlab.rl.prefill import filled_ring
from jaxlab.rl.progress_log import EvalPoint, ProgressLog
from jaxlab.rl.rates import Throughput
from jaxlab.rl.recorder import what_to_record
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.sync_training import train_sync
from jaxlab.rl.td3 import TD3Config
from jaxlab.rl.transition import Transition
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs.divergence import last_good_checkpoint


class TrainResult(NamedTuple):
    """What `train_host` ends with.

    Attributes:
      learner: the algorithm's state.
      env_steps: transitions collected, earlier calls on this workdir included.
      updates: updates done, likewise.
      throughput: rates of this call, from the end of the learner's first call, which compiles, to
        that of its last.
      eval_history: evaluations of this call, the last one made at its end.
      worker_restarts: samplers that died and were replaced.
      stopped: "max_seconds", "max_updates" or "target_return"; "interrupted" where a signal ended
        another process of the run.
    """

    learner: Any
    env_steps: int
    updates: int
    throughput: Throughput
    eval_history: list[EvalPoint]
    worker_restarts: int
    stopped: str


def train_host(
    key: jax.Array,
    sac_config: SACConfig | TD3Config,
    host_config: HostConfig,
    workdir: str | PathLike | None = None,
    *,
    import_module: str | None = None,
    observe: Observer = ignore,
    on_eval: Callable[[dict[str, float]], None] | None = None,
    prefill: Transition | None = None,
    pictures: str | PathLike | None = None,
    ray_address: str | None = None,
) -> TrainResult:
    """Trains until time, updates or the goal end it; goes on from a checkpoint in `workdir`.

    No child process and no segment of shared memory is left behind, whatever ends it. SIGINT
    and SIGTERM save a checkpoint first; a second one does not wait for that.

    In a run of several processes (`parallel.start_distributed`, mode "pmap") each calls with the
    same arguments. They learn together: `batch_size`, updates, losses and the policy are common,
    and what ends one ends all. Samplers, ring, warm-up and `env_steps` are each process's own. The
    first one evaluates, and writes what is written.

    Args:
      key: of parameters, noise, draws, environments and exploration.
      sac_config: the algorithm and its sizes.
      host_config: processes, sizes and ends.
      workdir: where checkpoints and `metrics.jsonl` (a line per evaluation) are kept.
      import_module: imported first, here and by the processes, to register environments with
        gymnasium.
      observe: told, beside processes, what was busy from when to when (see `Observer`).
      on_eval: handed what a line of `metrics.jsonl` holds, after each evaluation.
      prefill: rows that the ring holds at the start, as `read_transitions` gives them; a
        checkpoint's ring counts instead where there is one.
      pictures: where drawn episodes go (`episode.gif`, `episode.png`), by default `workdir`.
      ray_address: of a Ray cluster whose machines sample instead of processes here, see
        `RaySamplerPool`.

    Raises:
      ValueError: sizes that are not the environment's, an unknown environment, a Ray cluster for
        mode "sync".
      FloatingPointError: a loss that is not finite, with the update and the last checkpoint, which
        stays.
      RuntimeError: a sampler that keeps dying, with its error.
    """
    start = time.monotonic()
    if import_module:
        importlib.import_module(import_module)
    if ray_address and host_config.mode == "sync":
        raise ValueError("mode 'sync' does everything in this process; leave out ray_address")
    if ray_address and host_config.max_samplers:
        raise ValueError("a Ray cluster's samplers keep their number; leave out max_samplers")
    _check_sizes(sac_config, host_config)
    workdir = None if workdir is None else Path(workdir)
    state = fresh_state(key, sac_config, host_config)
    if workdir is not None:
        spec = ring_spec(sac_config, host_config) if host_config.checkpoint_replay else None
        state = restore_state(workdir, state, spec)
    if prefill is not None and state.ring is None:
        state = state._replace(ring=filled_ring(ring_spec(sac_config, host_config), prefill))

    def keep(state: HostState) -> None:
        if workdir is not None:
            save_state(workdir, state)

    before = state.env_steps, state.updates
    train = functools.partial(train_async, ray_address=ray_address)
    if host_config.mode == "sync":
        train = train_sync
    with contextlib.ExitStack() as stack:
        stack.enter_context(_termination_as_exit())
        folder = stack.enter_context(_output_folder(workdir, host_config))
        first = jax.process_index() == 0
        metrics = folder / "metrics.jsonl" if folder is not None and first else None
        pictures = pictures or folder
        if host_config.visualize and metrics is not None:
            picture = Path(pictures) / "episode.png"
            stack.enter_context(dashboard.serving(metrics, picture, observe))
        log = ProgressLog(metrics, host_config.batch_size, *before, on_eval, start=start)
        record = what_to_record(
            host_config.env_id, pictures, host_config.record_every, host_config.visualize
        )
        try:
            state, restarts, stopped = train(
                state, sac_config, host_config, log, keep, import_module, observe, record
            )
        except FloatingPointError as error:
            last = last_good_checkpoint(None if workdir is None else checkpoint_folder(workdir))
            raise FloatingPointError(f"{error}; {last}") from error
    return TrainResult(
        state.learner,
        state.env_steps,
        state.updates,
        log.throughput(),
        log.history,
        restarts,
        stopped,
    )


def _check_sizes(config, host: HostConfig) -> None:
    env = make_vec_env(host.env_id, 1)
    sizes = {"obs_dim": env.obs_dim, "act_dim": env.act_dim}
    env.close()
    for name, size in sizes.items():
        if getattr(config, name) != size:
            raise ValueError(f"config.{name} is {getattr(config, name)}, {host.env_id} has {size}")


@contextlib.contextmanager
def _output_folder(workdir: Path | None, host: HostConfig):
    """Where evaluations are written: a page reads them even where nobody keeps them."""
    if workdir is None and host.visualize:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield workdir


@contextlib.contextmanager
def _termination_as_exit():
    """SIGTERM unwinds the stack, so that processes and memory are cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        raise SystemExit(128 + number)

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
