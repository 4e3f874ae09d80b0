"""Training on an environment of the user's choice: no claim, a policy to take away."""

import dataclasses

import jax
import numpy as np

from jaxlab.rl.autotuning import autotune
from jaxlab.rl.host import train_host
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.learner import policy_of
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.td3 import TD3Config, ddpg_config
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs import Claim, Run

ALGORITHMS = ("sac", "td3", "ddpg")


def measure(config, run: Run) -> list[Claim]:
    """Trains, leaves the policy in `artifacts/policy.npz` and `.json`, and reports its return.

    `numpy_actor` plays the policy without jax.
    """
    env = make_vec_env(config.env_id, 1)
    algorithm = make_algorithm(config, env.obs_dim, env.act_dim)
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
        visualize=config.dashboard,
        mode=config.mode,
        checkpoint_every_s=config.checkpoint_every_s,
    )
    if config.autotune:
        host = _fit(config, run, algorithm, host)
    result = train_host(
        jax.random.key(config.seed),
        algorithm,
        host,
        run.workdir / "training",
        import_module=config.import_module or None,
    )
    _export(run, result, algorithm)
    last = result.eval_history[-1]
    rates = result.throughput
    return [
        Claim(
            "train",
            f"{config.algo} on {config.env_id}",
            "",
            f"mean return {last.mean_return:.1f} after {result.env_steps:,} steps and "
            f"{result.updates:,} updates",
            "reported",
            detail=f"{rates.sample_hz:,.0f} transitions and {rates.update_frame_hz:,.0f} rows "
            f"learned from per second, {last.wall_s:.0f} s, ended by {result.stopped}; "
            f"{result.worker_restarts} samplers replaced.",
        )
    ]


def make_algorithm(config, obs_dim: int, act_dim: int) -> SACConfig | TD3Config:
    """The algorithm's config for the sizes of an environment."""
    shared = {
        "hidden": config.hidden,
        "gamma": config.gamma,
        "tau": config.tau,
        "actor_lr": config.lr,
        "critic_lr": config.lr,
    }
    if config.algo == "sac":
        return SACConfig(obs_dim, act_dim, alpha_lr=config.lr, **shared)
    make = TD3Config if config.algo == "td3" else ddpg_config
    return make(obs_dim, act_dim, **shared)


def _fit(config, run: Run, algorithm, host: HostConfig) -> HostConfig:
    """Measured once for a workdir, so that a run that goes on keeps its settings."""

    def tune():
        fitted, log = autotune(
            algorithm, host, batch_sizes=config.batch_sizes, samplers=config.sampler_counts
        )
        run.write_json("autotune.json", log)
        names = ("batch_size", "updates_per_call", "n_samplers")
        return {name: getattr(fitted, name) for name in names}

    chosen = run.once("autotune", tune)
    return dataclasses.replace(host, **{name: int(value) for name, value in chosen.items()})


def _export(run: Run, result, algorithm) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(policy_of(result.learner))
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    settings = run.write_json("policy.json", dataclasses.asdict(algorithm))
    np.savez(settings.with_suffix(".npz"), **names)
