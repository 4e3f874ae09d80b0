"""The same training in one process, in turn: deterministic from key and settings.

It goes in segments. At the start of each the environments are reset and everything random is
seeded anew from the steps taken, so that a run that goes on from a segment's start ends with the
same numbers as one that was never interrupted.
"""

import importlib
import time
from collections.abc import Callable

import jax
import numpy as np

from jaxlab.rl.async_training import Observer, ignore
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.host_policy import log_std_range_of
from jaxlab.rl.host_state import (
    DRAW,
    SAMPLE,
    HostState,
    mean_return,
    ring_spec,
    seed_of,
    update_key,
)
from jaxlab.rl.interrupts import deferred_signals
from jaxlab.rl.learner import learn_from_rows, policy_of
from jaxlab.rl.progress_log import ProgressLog
from jaxlab.rl.recorder import Recorder, RecordSettings
from jaxlab.rl.sampler import action_rng, take_step
from jaxlab.rl.shared_replay import SharedReplay
from jaxlab.rl.stopping import check_losses, must_wait, reason_to_stop, updates_of_next_call
from jaxlab.rl.vec_env import make_vec_env

_SEGMENT_STEPS = 200  # of all environments; where an episode may be longer, a whole one


def train_sync(
    state: HostState,
    config,
    host: HostConfig,
    log: ProgressLog,
    keep: Callable[[HostState], None],
    import_module: str | None = None,
    observe: Observer = ignore,
    pictures: RecordSettings | None = None,
) -> tuple[HostState, int, str]:
    """Trains from `state` until `host` says when; arguments and results as `train_async`.

    Nothing is busy beside anything else, so nothing is observed. After a signal the segment is
    finished: a run that goes on from its end ends with the same numbers.
    """
    del observe
    if import_module:
        importlib.import_module(import_module)
    saved = evaluated = time.monotonic()
    recorder = Recorder(pictures)
    with deferred_signals() as interrupted, SharedReplay.create(ring_spec(config, host)) as ring:
        if state.ring is not None:
            ring.load_state_dict(state.ring)

        def with_ring(state: HostState) -> HostState:
            return state._replace(ring=ring.state_dict() if host.checkpoint_replay else None)

        while not (reason := reason_to_stop(host, log, state.updates)) and not interrupted():
            state, evaluated = _run_segment(state, ring, config, host, log, recorder, evaluated)
            if time.monotonic() - saved >= host.checkpoint_every_s:
                saved = time.monotonic()
                keep(with_ring(state))
        log.measure_to(state.env_steps, state.updates)
        if not interrupted():
            log.add(state.env_steps, state.updates, mean_return(state, host))
        state = with_ring(state)
        keep(state)
    return state, 0, reason or "interrupted"


def _run_segment(
    state: HostState,
    ring,
    config,
    host: HostConfig,
    log: ProgressLog,
    recorder: Recorder,
    evaluated: float,
) -> tuple[HostState, float]:
    """Over and over: a step of all environments, then a call of the learner.

    `evaluated` is when the policy was evaluated last; the new one is returned beside the state.
    """
    n_envs = host.n_samplers * host.envs_per_sampler
    seed, log_std_range = seed_of(state, SAMPLE), log_std_range_of(config)
    env, act_rng = make_vec_env(host.env_id, n_envs, seed), action_rng(seed)
    draw_rng = np.random.default_rng(seed_of(state, DRAW))
    obs, params = env.reset(), policy_of(state.learner)
    for step in range(max(_SEGMENT_STEPS, env.max_steps or 0)):
        if reason_to_stop(host, log, state.updates):
            break
        warm = state.env_steps >= host.warmup_steps
        acting = params if warm else None
        batch, obs = take_step(env, obs, acting, act_rng, step, log_std_range)
        ring.write(0, batch)
        state = state._replace(env_steps=state.env_steps + n_envs)
        ready = state.env_steps >= host.warmup_steps
        if ready and not must_wait(host, state.env_steps, state.updates):
            count = updates_of_next_call(host, state.updates)
            rows = ring.sample_packed(draw_rng, count * host.batch_size)
            block = jax.device_put(rows.reshape(count, host.batch_size, -1))
            learner, metrics = learn_from_rows(update_key(state), state.learner, block, config)
            state = state._replace(learner=learner, updates=state.updates + count)
            check_losses(metrics, state.updates)
            log.measure_from(state.env_steps, state.updates)
            params = policy_of(learner)
        if time.monotonic() - evaluated >= host.eval_every_s:
            evaluated = time.monotonic()
            log.add(state.env_steps, state.updates, mean_return(state, host))
            recorder.look(policy_of(state.learner))
    env.close()
    return state, evaluated
