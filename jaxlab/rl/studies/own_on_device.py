"""The user's training on the device: SAC or PPO in one program, resumed exactly."""

import contextlib
import time
from typing import Any, NamedTuple

import jax

from jaxlab import runs
from jaxlab.rl import dashboard
from jaxlab.rl.checkpoint import load_checkpoint, save_checkpoint
from jaxlab.rl.interrupts import deferred_signals
from jaxlab.rl.learner import policy_of
from jaxlab.rl.on_device import OnDeviceConfig, evaluate_policy, ondevice_init, ondevice_run
from jaxlab.rl.on_policy import OnPolicyConfig, onpolicy_init, onpolicy_run
from jaxlab.rl.ppo import PPOConfig
from jaxlab.rl.progress_log import ProgressLog
from jaxlab.rl.recorder import Recorder, what_to_record
from jaxlab.rl.sac import SACConfig

# Small numbers fold to the keys that a split of the same key gives.
_EVALUATE = 2**31 - 1


class DeviceResult(NamedTuple):
    """What training on the device ends with.

    Attributes:
      learner: the algorithm's state.
      env_steps, updates: done in all, earlier calls included.
      mean_return: of the last evaluation.
      seconds: of this call.
      stopped: "max_seconds", "max_updates" or "target_return".
    """

    learner: Any
    env_steps: int
    updates: int
    mean_return: float
    seconds: float
    stopped: str


def train_on_device(
    config, env, algorithm: SACConfig | PPOConfig, run: runs.Run, options
) -> DeviceResult:
    """Trains until time, updates or the goal end it, and logs each evaluation to the run.

    Evaluations lie `eval_every_iters` iterations apart, not seconds, the ends are looked for there,
    and a checkpoint holds everything: a run that is killed and started again ends with the same
    numbers, unless it is the clock that ends it. A signal saves a checkpoint.

    Raises:
      FloatingPointError: a metric that is not finite; the last checkpoint stays.
    """
    state, advance, rows = _prepare(config, algorithm, env)
    folder = run.checkpoint_dir("on_device")
    if runs.latest_step(folder) is not None:
        state = load_checkpoint(folder, state)
    eval_key = jax.random.fold_in(jax.random.key(config.seed), _EVALUATE)
    saved = time.monotonic()
    metrics = {}
    with deferred_signals() as interrupted, _page(config, run, options) as (path, recorder):
        # For the page: the rates of a line are no part of what a run that goes on repeats.
        log = ProgressLog(path, rows, int(state.env_steps), int(state.learner.step))
        while True:
            actor, updates = state.learner.actor, int(state.learner.step)
            mean = float(
                evaluate_policy(eval_key, env, actor, algorithm, config.eval_episodes).mean()
            )
            run.log(updates, env_steps=int(state.env_steps), mean_return=mean, **metrics)
            log.add(int(state.env_steps), updates, mean)
            recorder.look(policy_of(state.learner))
            reason = _reason_to_stop(config, updates, mean, log.seconds())
            ends = reason or interrupted()
            if ends or time.monotonic() - saved >= config.checkpoint_every_s:
                saved = time.monotonic()
                save_checkpoint(folder, state)
            if ends:
                break
            state, metrics = advance(state)
            metrics = {name: float(values[-1]) for name, values in metrics.items()}
            runs.check_finite(int(state.learner.step), metrics, folder)
    stopped = reason or "interrupted"
    return DeviceResult(state.learner, int(state.env_steps), updates, mean, log.seconds(), stopped)


@contextlib.contextmanager
def _page(config, run: runs.Run, options):
    """The file of evaluations that a page shows, served if asked for, and what draws episodes."""
    metrics, pictures = run.checkpoint_dir("training") / "metrics.jsonl", run.workdir / "figures"
    recorder = Recorder(
        what_to_record(config.env_id, pictures, options.record_every, options.dashboard)
    )
    with contextlib.ExitStack() as stack:
        if options.dashboard:
            stack.enter_context(dashboard.serving(metrics, pictures / "episode.png"))
        yield metrics, recorder


def _prepare(config, algorithm, env):
    """A fresh state, what takes it `eval_every_iters` iterations further, rows of an update.

    The state that is taken further is donated.
    """
    if isinstance(algorithm, PPOConfig):
        layout: Any = OnPolicyConfig(
            n_envs=config.envs_per_sampler,
            n_steps=config.rollout_steps,
            n_epochs=config.epochs,
            n_minibatches=config.minibatches,
        )
        init, iterate = onpolicy_init, onpolicy_run
        rows = layout.n_envs * layout.n_steps // layout.n_minibatches
    else:
        layout = OnDeviceConfig(
            n_envs=config.envs_per_sampler,
            batch_size=config.batch_size,
            updates_per_iter=config.updates_per_call,
            capacity=config.capacity,
            warmup_steps=config.warmup_steps,
        )
        init, iterate, rows = ondevice_init, ondevice_run, layout.batch_size
    state = init(jax.random.key(config.seed), env, algorithm, layout)
    static = env, algorithm, layout, config.eval_every_iters
    donating = jax.jit(iterate, static_argnums=(1, 2, 3, 4), donate_argnums=0)
    return state, lambda state: donating(state, *static), rows


def _reason_to_stop(config, updates: int, mean_return: float, seconds: float) -> str | None:
    if config.max_updates is not None and updates >= config.max_updates:
        return "max_updates"
    if config.target_return is not None and mean_return >= config.target_return:
        return "target_return"
    return "max_seconds" if seconds >= config.max_seconds else None
