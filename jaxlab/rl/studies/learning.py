"""C8 and C10: time, steps and updates to a solved Pendulum, by batch size."""

import functools

import numpy as np

from jaxlab.rl import figures
from jaxlab.rl.on_device import OnDeviceConfig
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.studies.solving import EPISODES, GOAL, solve
from jaxlab.runs import Claim, Run, holds, not_run, progress, spread

_MAX_UPDATES = 8000


def measure(config, run: Run) -> list[Claim]:
    """The recipe of every seed, and a large batch beside a small one."""
    adam = config.solve_lr
    algorithm = SACConfig(
        3, 1, (64, 64), tau=config.solve_tau, actor_lr=adam, critic_lr=adam, alpha_lr=adam
    )
    solved = [
        run.once(
            f"solve_{seed}",
            functools.partial(solve, seed, algorithm, OnDeviceConfig(), _MAX_UPDATES),
        )
        for seed in progress(_seeds(config, config.solve_seeds), "Pendulum")
    ]
    run.figure("pendulum", figures.pendulum(solved, GOAL))
    updates = [int(x["updates"]) for x in solved]
    seconds = [float(x["seconds"]) for x in solved]
    reached = sum(bool(x["reached"]) for x in solved)
    ours = (
        f"{reached} of {len(solved)} seeds solve it after {spread(updates):.0f} updates, "
        f"{np.mean([int(x['env_steps']) for x in solved]):,.0f} steps, {spread(seconds):.1f} s "
        f"without compilation ({np.mean([float(x['compile_s']) for x in solved]):.1f} s)"
    )
    return [
        Claim(
            "C8",
            "Training takes 73% less time",
            "3.7x faster",
            ours,
            "not run",
            detail=f"The time to a mean return of {GOAL:g} over {EPISODES} starts of Pendulum-v1 "
            "beside stable-baselines3 is measured by benchmarks/spreeze.py, which needs it.",
        ),
        _large_batches(config, run),
    ]


def _large_batches(config, run: Run) -> Claim:
    statement = "Large batches are efficient for learning, too"
    if not config.large_batch_seeds:
        return not_run("C10", statement, "left out at this preset")
    algorithm = SACConfig(3, 1, (64, 64), actor_lr=1e-3, critic_lr=1e-3, alpha_lr=1e-3)
    layouts = {
        256: OnDeviceConfig(n_envs=16, batch_size=256),
        1024: OnDeviceConfig(n_envs=64, batch_size=1024),
    }
    solved = {
        size: [
            run.once(
                f"batch_{size}_{seed}",
                functools.partial(solve, seed, algorithm, layout, _MAX_UPDATES),
            )
            for seed in _seeds(config, config.large_batch_seeds)
        ]
        for size, layout in layouts.items()
    }
    updates = {size: [int(x["updates"]) for x in results] for size, results in solved.items()}
    few, many = (np.mean(updates[size]) for size in (256, 1024))
    # One that does not solve it ends like one that does, after its last update.
    unsolved = sum(not x["reached"] for results in solved.values() for x in results)
    return Claim(
        "C10",
        statement,
        "",
        f"{spread(updates[1024]):.0f} updates of 1,024 rows, {spread(updates[256]):.0f} of 256",
        holds(many <= few and not unsolved),
        detail="Updates to a solved Pendulum, 64 and 16 environments, Adam 1e-3. "
        f"{unsolved} of {2 * config.large_batch_seeds} runs did not solve it within "
        f"{_MAX_UPDATES:,} updates. Criterion: all solve it, with no more updates with the large "
        "batch.",
    )


def _seeds(config, count: int) -> range:
    return range(config.seed, config.seed + count)
