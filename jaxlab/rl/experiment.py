"""Claims of the Spreeze paper, measured: `run(config, run)`."""

import dataclasses

from jaxlab.rl.studies import devices, learning, own, processes, transmission, update_rates
from jaxlab.runs import Claim, Run, check_choices, check_least, claim_order, not_run, option

STUDIES = {
    "processes": processes.measure,
    "transmission": transmission.measure,
    "update_rates": update_rates.measure,
    "devices": devices.measure,
    "learning": learning.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the studies, and of training on an environment of one's own."""

    experiment: str = option(
        "all", "which study; train: on --env_id, no claims", choices=("all", *STUDIES, "train")
    )
    seed: int = option(0, "seed of parameters, environments and noise")

    transmission_seconds: float = option(1.0, "seconds for each rate of transmission")
    transmission_rounds: int = option(5, "measurements of each, of which the best counts")
    batch_sizes: tuple[int, ...] = option(
        (64, 128, 256, 512, 1024, 2048, 4096, 8192), "batch sizes that the tuner goes through"
    )
    rate_obs_dim: int = option(17, "numbers in an observation where rates are measured")
    rate_act_dim: int = option(6, "numbers in an action there")
    rate_hidden: tuple[int, ...] = option((256, 256), "widths of the networks there")
    rate_seconds: float = option(0.5, "seconds for each of three measurements of a rate")
    rate_samplers: tuple[int, ...] = option(
        (1, 2, 4), "numbers of samplers that their tuner goes through there; none leaves them out"
    )
    gpu_criteria: bool = option(False, "C6 and C9: judge a GPU, and only report without one")
    solve_seeds: int = option(5, "seeds that solve Pendulum on the device")
    solve_lr: float = option(3e-3, "their learning rate")
    solve_tau: float = option(0.01, "their tau")
    solve_env: str = option(
        "gym:Pendulum-v1",
        "environment of the processes that solve it",
        choices=("gym:Pendulum-v1", "numpy:pendulum"),
    )
    solve_seconds: float = option(90.0, "seconds at most to solve it with processes")
    overlap_seeds: int = option(10, "C1: seeds that solve it so")
    compare_sync: bool = option(True, "solve it in one process, too")
    async_share: float = option(0.8, "C1: share of the time in one process that passes")
    async_processors: int = option(2, "C1: with fewer processors the time is only reported")
    large_batch_seeds: int = option(3, "seeds that solve it with batches of 256 and of 1,024")
    speed_env: str = option("gym:HalfCheetah-v5", "environment of the run at full speed")
    speed_envs: int = option(16, "environments in its sampler")
    speed_seconds: float = option(30.0, "its length")
    sample_goal_hz: float = option(8000.0, "C5: transitions per second there that pass")
    sample_processors: int = option(1, "C5: with fewer processors they are only reported")

    env_id: str = option(
        "numpy:pendulum",
        "train: numpy:pendulum; gym: and a gymnasium id; on the device gymnax:NAME, brax:NAME, "
        "mjx:NAME",
    )
    import_module: str = option("", "train: module that registers environments")
    algo: str = option("sac", "train: algorithm", choices=own.ALGORITHMS)
    mode: str = option(
        "async",
        "train: processes; all in turn; processes and a learner on two or on all devices; or "
        "everything on the device (pendulum, by sac or ppo)",
        choices=own.MODES,
    )
    hidden: tuple[int, ...] = option((256, 256), "train: widths of the networks")
    lr: float = option(3e-4, "train: learning rate; 1e-3 suits batches of 1,024 and more")
    gamma: float = option(0.99, "train: discount")
    tau: float = option(0.005, "train: how far the targets follow")
    autotune: bool = option(
        False,
        "train: measure batch size, updates per call and samplers first, and go on fitting the "
        "samplers",
    )
    sampler_counts: tuple[int, ...] = option((1, 2, 4), "train: samplers that --autotune tries")
    n_samplers: int = option(1, "train: sampling processes")
    envs_per_sampler: int = option(16, "train: environments in each")
    batch_size: int = option(256, "train: rows of an update")
    updates_per_call: int = option(8, "train: updates fused into one program")
    capacity: int = option(1_000_000, "train: rows of the ring")
    warmup_steps: int = option(10_000, "train: random steps first")
    max_sample_hz: float | None = option(None, "train: steps per second of a sampler at most")
    max_replay_ratio: float | None = option(None, "train: rows learned from per step at most")
    max_seconds: float = option(3600.0, "train: wall time")
    max_updates: int | None = option(None, "train: updates at most")
    target_return: float | None = option(None, "train: mean return that ends it")
    eval_every_s: float = option(10.0, "train: seconds between evaluations")
    eval_episodes: int = option(10, "train: episodes of one")
    eval_every_iters: int = option(50, "train, ondevice: iterations between evaluations")
    rollout_steps: int = option(128, "train, ppo: steps of each environment in an iteration")
    epochs: int = option(10, "train, ppo: passes over what an iteration collected")
    minibatches: int = option(16, "train, ppo: parts of a pass")
    prefill: str = option("", "train: .npz of transitions that the ring holds at the start")
    checkpoint_every_s: float = option(60.0, "train: seconds between checkpoints")


@dataclasses.dataclass(frozen=True)
class Options:
    """What training on an environment of one's own may be told besides; no number depends on it."""

    dashboard: bool = option(False, "train: serve a page with the curves and a drawn episode")
    record_every: int | None = option(
        None,
        "train: evaluations from one drawn episode to the next (figures/episode.gif), 0 for none; "
        "by default the tenth beside --dashboard, and always the last policy's. Without a display "
        "MuJoCo needs MUJOCO_GL=egl or osmesa",
    )
    retune: bool = option(False, "train: measure anew what --autotune found here before")
    ray_address: str = option(
        "",
        "train: Ray cluster whose machines sample: auto, HOST:PORT, ray://..., or local to start "
        "one here",
    )


PRESETS = {
    "smoke": Config(
        transmission_seconds=0.2,
        transmission_rounds=3,
        batch_sizes=(64, 256, 1024, 4096),
        rate_obs_dim=3,
        rate_act_dim=1,
        rate_hidden=(64, 64),
        rate_seconds=0.3,
        rate_samplers=(),
        solve_seeds=2,
        solve_env="numpy:pendulum",
        solve_seconds=45.0,
        overlap_seeds=1,
        compare_sync=False,
        large_batch_seeds=0,
        speed_env="numpy:pendulum",
        speed_envs=64,
        speed_seconds=8.0,
        sample_goal_hz=50_000.0,
    ),
    "small": Config(),
    "paper": Config(
        batch_sizes=(256, 1024, 4096, 8192, 16_384, 32_768, 65_536),
        rate_samplers=(1, 2, 4, 8),
        gpu_criteria=True,
        async_share=0.5,
        async_processors=8,
        speed_seconds=120.0,
        sample_goal_hz=15_000.0,
        sample_processors=4,
    ),
}


def run(config: Config, run: Run, options: Options = Options()) -> list[Claim]:
    """Runs the chosen study, or all that measure claims, and writes the claims.

    Raises:
      ValueError: an unknown study, or sizes that make no sense.
    """
    check_choices(config)
    check_least(config, {"transmission_rounds": 1, "overlap_seeds": 1})
    if config.experiment == "train":
        return run.write_claims(own.measure(config, run, options))
    chosen = list(STUDIES) if config.experiment == "all" else [config.experiment]
    claims = [claim for name in chosen for claim in STUDIES[name](config, run)]
    if config.experiment == "all":
        claims.append(_beside_peers())
    return run.write_claims(sorted(claims, key=claim_order))


def _beside_peers() -> Claim:
    return not_run(
        "C7",
        "An order of magnitude more throughput than mainstream frameworks",
        "Needs stable-baselines3 and SBX: benchmarks/spreeze.py --workdir=... measures it.",
        paper="10x",
    )
