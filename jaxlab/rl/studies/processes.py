"""C1, C5 and C9: what runs beside what, how fast experience comes, how busy the machine is."""

import functools
import math
import os
import shutil
from typing import Any

import jax
import numpy as np

from jaxlab.rl import figures
from jaxlab.rl.host import train_host
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.studies.processor_meter import ProcessorMeter
from jaxlab.rl.studies.solving import EPISODES, GOAL
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs import Claim, Run, holds, not_run, spread
from jaxlab.runs.environment import processor_count

_KINDS = ("sample", "update", "evaluate", "visualise")


def measure(config, run: Run) -> list[Claim]:
    """A solved Pendulum with every process beside the others, in turn, and at full speed."""
    together = _solutions(config, run, "async")
    in_turn = _solutions(config, run, "sync") if config.compare_sync else []
    full = run.once("full_speed", lambda: _full_speed(config))
    run.figure("timeline", figures.timeline(together[0], _KINDS))
    return [
        _overlap(config, together, in_turn),
        _sampling(config, full),
        _utilisation(config, full),
    ]


def _algorithm(obs_dim: int, act_dim: int, hidden=(64, 64)) -> SACConfig:
    rates: dict[str, Any] = dict.fromkeys(("actor_lr", "critic_lr", "alpha_lr"), 3e-3)
    return SACConfig(obs_dim, act_dim, hidden, tau=0.01, **rates)


def _solutions(config, run: Run, mode: str) -> list[dict]:
    return [
        run.once(f"{mode}_{number}", functools.partial(_solve, config, run, mode, number))
        for number in range(config.overlap_seeds)
    ]


@functools.cache
def _compile(config) -> None:
    """One update, so that no run that is timed compiles what the next ones find compiled."""
    host = HostConfig(
        env_id=config.solve_env, mode="sync", envs_per_sampler=64, eval_episodes=1, max_updates=1
    )
    train_host(jax.random.key(config.seed), _algorithm(3, 1), host)


def _solve(config, run: Run, mode: str, number: int) -> dict:
    """Pendulum to the goal, from the call of `train_host` on: what is timed does not resume."""
    _compile(config)
    workdir = run.checkpoint_dir(f"pendulum_{mode}_{number}")
    shutil.rmtree(workdir, ignore_errors=True)
    # What else the machine does: later on, this run is the load.
    load = os.getloadavg()[0]
    busy = []
    host = HostConfig(
        env_id=config.solve_env,
        mode=mode,
        envs_per_sampler=64,
        # With less the learner sees few new rows, with no limit it is slowed (seeds 100 to 109).
        max_sample_hz=24_000.0,
        target_return=GOAL,
        eval_episodes=EPISODES,
        eval_every_s=1.0,
        visualize=mode == "async",
        record_every=0,  # on two cores, drawing takes from what is timed
        max_seconds=config.solve_seconds,
        max_updates=20_000,
    )
    result = train_host(
        jax.random.key(config.seed + number),
        _algorithm(3, 1),
        host,
        workdir,
        observe=lambda *interval: busy.append(interval),
    )
    first = min((start for _, start, _ in busy), default=0.0)
    kept = {
        kind: np.array([(a - first, b - first) for k, a, b in busy if k == kind]).reshape(-1, 2)
        for kind in _KINDS
    }
    # The last evaluation comes after the goal, and after the samplers have been stopped.
    reached = [point.wall_s for point in result.eval_history if point.mean_return >= GOAL]
    return {
        "busy": kept,
        "seconds": reached[0] if reached else result.eval_history[-1].wall_s,
        "updates": result.updates,
        "env_steps": result.env_steps,
        "mean_return": result.eval_history[-1].mean_return,
        "stopped": result.stopped,
        "sample_hz": result.throughput.sample_hz,
        "load": load,
        "processors": processor_count(),
    }


def _overlap(config, together: list[dict], in_turn: list[dict]) -> Claim:
    """Evaluations beside everything else, and the time that it all took; a run a seed."""
    first = together[0]
    busy, load = first["busy"], float(first["load"])  # later runs find the load of earlier ones
    others = [kind for kind in _KINDS if kind != "evaluate"]

    def meets(interval, others) -> bool:
        return bool(((others[:, 0] < interval[1]) & (others[:, 1] > interval[0])).any())

    beside = [all(meets(x, busy[kind]) for kind in others) for x in busy["evaluate"]]
    detail = (
        f"{config.solve_env} to {GOAL:g}: {int(first['updates']):,} updates, "
        f"{int(first['env_steps']):,} steps, mean return {float(first['mean_return']):.0f}, "
        f"ended by {first['stopped']}, load average before it {load:.1f}. Criterion: an "
        "evaluation during which transitions came in, updates were made and the page of curves "
        "was served"
    )
    verdict = holds(any(beside))
    measured = f"{sum(beside)} of {len(beside)} evaluations beside all else"
    if in_turn:
        took, needed = (
            np.array([float(one["seconds"]) for one in runs]) for runs in (together, in_turn)
        )
        ratio = took.mean() / needed.mean()
        measured += (
            f"; {ratio:.2f} of the time in turn ({_seconds(took)} against {_seconds(needed)} s)"
        )
        detail += f"; and <= {config.async_share:g} of the time in turn, all solved"
        unfit = _unfit_for_timing(config, load, int(first["processors"]))
        solved = all(str(one["stopped"]) == "target_return" for one in together)
        if any(beside):
            verdict = "reported" if unfit else holds(solved and ratio <= config.async_share)
        if unfit:
            detail += f", only reported here: {unfit}"
    return Claim(
        "C1",
        "Sampling, updates, evaluation and visualisation run asynchronously",
        "",
        measured,
        verdict,
        detail=f"{detail}.",
    )


def _seconds(values: np.ndarray) -> str:
    return f"{spread(values):.2f}"


def _unfit_for_timing(config, load: float, processors: int) -> str:
    """Why this machine does not judge the time of processes beside each other; "" if it does."""
    if processors < config.async_processors:
        return f"it asks for {config.async_processors} processors, there are {processors}"
    return f"other work, a load of {load:.1f} > 1, takes part in it" if load > 1 else ""


def _full_speed(config) -> dict:
    """Rates and use of the processors with samplers that are not held back."""
    env = make_vec_env(config.speed_env, 1)
    algorithm = _algorithm(env.obs_dim, env.act_dim, config.rate_hidden)
    env.close()
    host = HostConfig(
        env_id=config.speed_env,
        envs_per_sampler=config.speed_envs,
        max_seconds=config.speed_seconds,
        eval_episodes=1,
        eval_every_s=60.0,
        batch_size=1024,
    )
    meter = ProcessorMeter()
    result = train_host(jax.random.key(config.seed), algorithm, host, observe=meter.look)
    return {
        "sample_hz": result.throughput.sample_hz,
        "update_hz": result.throughput.update_hz,
        "load": os.getloadavg()[0],
        "processors": processor_count(),
        **meter.shares(),
    }


def _sampling(config, full: dict) -> Claim:
    goal, count = config.sample_goal_hz, int(full["processors"])
    rate, share = float(full["sample_hz"]), float(full["sampler_s"])
    had = ""
    if share > 0:
        had = f"; it had {share:.0%} of a processor: {rate / share:,.0f} in a processor second"
    few = ""
    if count < config.sample_processors:
        few = f" with {config.sample_processors} processors, there are {count}"
    return Claim(
        "C5",
        "Up to 15,000 transitions sampled per second",
        "15,000 Hz",
        f"{rate:,.0f} Hz",
        "reported" if few else holds(rate >= goal),
        detail=f"{config.speed_env}, one sampler of {config.speed_envs} environments, while "
        f"learning at {float(full['update_hz']):.1f} updates of 1,024 rows per second{had}; load "
        f"average {float(full['load']):.1f}. Criterion: >= {goal:,.0f} Hz{few}.",
    )


def _utilisation(config, full: dict) -> Claim:
    use = float(full["use"])
    statement = "The limit of one desktop's hardware is approached"
    if math.isnan(use):
        why = "The use of processors is read from /proc, while the learner runs."
        return not_run("C9", statement, why)
    unjudged = ""
    if config.gpu_criteria:
        unjudged = "Criterion at this preset: a GPU that is busy for 90%; that is not measured."
    elif config.speed_seconds < 20:
        unjudged = "Criterion in runs of 20 s and more: >= 90%."
    return Claim(
        "C9",
        statement,
        "",
        f"{use:.0%} of the processors' time",
        "reported" if unjudged else holds(use >= 0.9),
        detail=f"Over {config.speed_seconds:g} s of the run of C5, from the end of the learner's "
        "first call, which compiles. Its threads ran or waited for a processor for "
        f"{float(full['demand']):.0%} of the processors' time; other work on the machine takes its "
        f"share (load average {float(full['load']):.1f}). "
        f"{unjudged or 'Criterion: >= 90%.'}",
    )
