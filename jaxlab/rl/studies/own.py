"""Training on an environment of the user's choice: no claim, a policy to take away."""

import dataclasses
import hashlib
import importlib
import io
import socket
from typing import Any

import jax
import numpy as np

from jaxlab.rl.autotuning import autotune
from jaxlab.rl.device_envs import make_env
from jaxlab.rl.host import train_host
from jaxlab.rl.host_config import MODES as HOST_MODES
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.learner import policy_of
from jaxlab.rl.ppo import PPOConfig
from jaxlab.rl.prefill import read_transitions
from jaxlab.rl.recorder import Recorder, RecordSettings
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.studies.own_on_device import train_on_device
from jaxlab.rl.td3 import TD3Config, ddpg_config
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs import Claim, Run

ALGORITHMS = ("sac", "td3", "ddpg", "ppo")
MODES = (*HOST_MODES, "ondevice")


def measure(config, run: Run, options) -> list[Claim]:
    """Trains, leaves the policy in `artifacts/policy.npz` and `.json`, and reports its return.

    `numpy_actor` plays the policy without jax. One episode of it is drawn in `figures`.

    Raises:
      ValueError: an algorithm or option that the mode does not have.
    """
    on_device = config.mode == "ondevice"
    allowed = ("sac", "ppo") if on_device else ("sac", "td3", "ddpg")
    if config.algo not in allowed:
        raise ValueError(
            f"mode {config.mode!r} trains {', '.join(allowed)}, got algo {config.algo!r}"
        )
    if on_device and (config.prefill or config.autotune or options.ray_address):
        raise ValueError(
            "prefill, autotune and ray_address are for environments on the host, not ondevice"
        )
    if config.autotune and (options.ray_address or jax.process_count() > 1):
        raise ValueError("autotune fits a run to one machine, without a Ray cluster")
    measured, detail = (_on_device if on_device else _on_host)(config, run, options)
    statement = f"{config.algo} on {config.env_id}"
    return [Claim("train", statement, "", measured, "reported", detail=detail)]


def _on_device(config, run: Run, options) -> tuple[str, str]:
    # "numpy:pendulum" names the same environment on the host.
    env = make_env(config.env_id.removeprefix("numpy:"))
    algorithm: Any = make_algorithm(config, env.obs_dim, env.act_dim)
    result = train_on_device(config, env, algorithm, run, options)
    _export(run, result.learner, algorithm)
    return (
        f"mean return {result.mean_return:.1f} after {result.env_steps:,} steps and "
        f"{result.updates:,} updates",
        f"On the device, {result.seconds:.0f} s, ended by {result.stopped}. "
        f"{_draw(config, run, result.learner, options)}",
    )


def _on_host(config, run: Run, options) -> tuple[str, str]:
    if config.import_module:
        importlib.import_module(config.import_module)
    env = make_vec_env(config.env_id, 1)
    algorithm: Any = make_algorithm(config, env.obs_dim, env.act_dim)
    env.close()
    host = HostConfig(
        env_id=config.env_id,
        n_samplers=config.n_samplers,
        envs_per_sampler=config.envs_per_sampler,
        batch_size=config.batch_size,
        updates_per_call=config.updates_per_call,
        capacity=config.capacity,
        warmup_steps=config.warmup_steps,
        max_sample_hz=config.max_sample_hz,
        max_replay_ratio=config.max_replay_ratio,
        max_seconds=config.max_seconds,
        max_updates=config.max_updates,
        target_return=config.target_return,
        eval_every_s=config.eval_every_s,
        eval_episodes=config.eval_episodes,
        visualize=options.dashboard,
        record_every=options.record_every,
        mode=config.mode,
        checkpoint_every_s=config.checkpoint_every_s,
    )
    if config.autotune:
        host = _fit(config, run, algorithm, host, options.retune)
    prefill = None
    if config.prefill:
        prefill = read_transitions(config.prefill, algorithm.obs_dim, algorithm.act_dim)

    def log(line):
        run.log(line["updates"], **{k: v for k, v in line.items() if k != "updates"})

    result = train_host(
        jax.random.key(config.seed),
        algorithm,
        host,
        run.checkpoint_dir("training"),
        import_module=config.import_module or None,
        on_eval=log,
        prefill=prefill,
        pictures=run.workdir / "figures",
        ray_address=options.ray_address or None,
    )
    _export(run, result.learner, algorithm)
    last, rates = result.eval_history[-1], result.throughput
    return (
        f"mean return {last.mean_return:.1f} after {result.env_steps:,} steps and "
        f"{result.updates:,} updates",
        f"{rates.sample_hz:,.0f} transitions and {rates.update_frame_hz:,.0f} rows learned from "
        f"per second, {last.wall_s:.0f} s, ended by {result.stopped}; {result.worker_restarts} "
        f"samplers replaced. {_draw(config, run, result.learner, options)}",
    )


def _draw(config, run: Run, learner, options) -> str:
    """One episode of the policy, in `figures`; what became of it."""
    if options.record_every == 0 or jax.process_index():
        return ""
    trouble = []
    folder = str(run.workdir / "figures")
    Recorder(RecordSettings(config.env_id, folder, 1), trouble.append).look(policy_of(learner))
    return trouble[0] if trouble else "One episode is drawn in figures/episode.gif."


def make_algorithm(config, obs_dim: int, act_dim: int) -> SACConfig | TD3Config | PPOConfig:
    """The algorithm's config for the sizes of an environment."""
    shared = {
        "hidden": config.hidden,
        "gamma": config.gamma,
        "actor_lr": config.lr,
        "critic_lr": config.lr,
    }
    if config.algo == "ppo":
        return PPOConfig(obs_dim, act_dim, **shared)
    shared["tau"] = config.tau
    if config.algo == "sac":
        order = "parallel" if config.mode == "dual" else "sequential"
        return SACConfig(obs_dim, act_dim, alpha_lr=config.lr, order=order, **shared)
    make = TD3Config if config.algo == "td3" else ddpg_config
    return make(obs_dim, act_dim, **shared)


def _fit(config, run: Run, algorithm, host: HostConfig, retune: bool) -> HostConfig:
    """Measured once for a machine and what it trains: a run that goes on keeps its settings there.

    While it trains, the number of samplers is tried further.
    """
    machine = socket.gethostname(), jax.devices()[0].device_kind
    what = *machine, config.env_id, config.algo, config.hidden
    name = f"autotune_{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}"

    def tune():
        fitted, log = autotune(
            algorithm,
            host,
            batch_sizes=config.batch_sizes,
            samplers=config.sampler_counts,
            import_module=config.import_module or None,
        )
        run.write_json(f"{name}.json", {"fitted_to": what} | log)
        names = ("batch_size", "updates_per_call", "n_samplers")
        return {name: getattr(fitted, name) for name in names}

    if retune:
        (run.workdir / "results" / f"{name}.npz").unlink(missing_ok=True)
    chosen: dict[str, Any] = {name: int(value) for name, value in run.once(name, tune).items()}
    return dataclasses.replace(host, max_samplers=max(config.sampler_counts), **chosen)


def _export(run: Run, learner, algorithm) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(policy_of(learner))
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    run.write_json("policy.json", dataclasses.asdict(algorithm))
    with io.BytesIO() as buffer:
        np.savez(buffer, **names)
        run.write_bytes("policy.npz", buffer.getvalue())
