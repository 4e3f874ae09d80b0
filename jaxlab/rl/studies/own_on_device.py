"""The user's training on the device: SAC or PPO in one program, resumed exactly."""

import math
import time
from typing import Any, NamedTuple

import jax

from jaxlab import runs
from jaxlab.rl.checkpoint import load_checkpoint, save_checkpoint
from jaxlab.rl.on_device import OnDeviceConfig, evaluate_policy, ondevice_init, ondevice_run
from jaxlab.rl.on_policy import OnPolicyConfig, onpolicy_init, onpolicy_run
from jaxlab.rl.ppo import PPOConfig
from jaxlab.rl.sac import SACConfig


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


def train_on_device(config, env, algorithm: SACConfig | PPOConfig, run: runs.Run) -> DeviceResult:
    """Trains until time, updates or the goal end it, and logs each evaluation to the run.

    Evaluations lie `eval_every_iters` iterations apart, not seconds, the ends are looked for there,
    and a checkpoint holds everything: a run that is killed and started again ends with the same
    numbers, unless it is the clock that ends it. An interrupt saves a checkpoint.

    Raises:
      FloatingPointError: a metric that is not finite; the last checkpoint stays.
    """
    state, advance = _prepare(config, algorithm, env)
    folder = run.checkpoint_dir("on_device")
    if runs.latest_step(folder) is not None:
        state = load_checkpoint(folder, state)
    eval_key = jax.random.fold_in(jax.random.key(config.seed), 1)
    start = saved = time.monotonic()
    metrics = {}
    try:
        while True:
            actor, updates = state.learner.actor, int(state.learner.step)
            mean = float(
                evaluate_policy(eval_key, env, actor, algorithm, config.eval_episodes).mean()
            )
            run.log(updates, env_steps=int(state.env_steps), mean_return=mean, **metrics)
            reason = _reason_to_stop(config, updates, mean, time.monotonic() - start)
            if reason or time.monotonic() - saved >= config.checkpoint_every_s:
                saved = time.monotonic()
                save_checkpoint(folder, state)
            if reason:
                break
            state, metrics = advance(state)
            metrics = {name: float(values[-1]) for name, values in metrics.items()}
            _check_finite(metrics, updates)
    except KeyboardInterrupt:
        save_checkpoint(folder, state)
        raise
    seconds = time.monotonic() - start
    return DeviceResult(state.learner, int(state.env_steps), updates, mean, seconds, reason)


def _prepare(config, algorithm, env):
    """A fresh state, and the function that takes it `eval_every_iters` iterations further."""
    if isinstance(algorithm, PPOConfig):
        layout = OnPolicyConfig(
            n_envs=config.envs_per_sampler,
            n_steps=config.rollout_steps,
            n_epochs=config.epochs,
            n_minibatches=config.minibatches,
        )
        init, advance = onpolicy_init, onpolicy_run
    else:
        layout = OnDeviceConfig(
            n_envs=config.envs_per_sampler,
            batch_size=config.batch_size,
            updates_per_iter=config.updates_per_call,
            capacity=config.capacity,
            warmup_steps=config.warmup_steps,
        )
        init, advance = ondevice_init, ondevice_run
    state = init(jax.random.key(config.seed), env, algorithm, layout)
    return state, lambda state: advance(state, env, algorithm, layout, config.eval_every_iters)


def _reason_to_stop(config, updates: int, mean_return: float, seconds: float) -> str | None:
    if config.max_updates is not None and updates >= config.max_updates:
        return "max_updates"
    if config.target_return is not None and mean_return >= config.target_return:
        return "target_return"
    return "max_seconds" if seconds >= config.max_seconds else None


def _check_finite(metrics: dict[str, float], updates: int) -> None:
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"{', '.join(bad)} not finite after update {updates}")
