"""C3 and C6: batch size and samplers that measurement finds, and rows learned from per second."""

import os

import jax
import numpy as np

from jaxlab.rl import figures
from jaxlab.rl.autotuning import live_rates
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.rates import sac_flops
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.tuning import tune_batch_size, tune_samplers
from jaxlab.rl.update_rate import RateMeter
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs import Claim, Run, holds, progress
from jaxlab.runs.environment import matmul_flops_per_second

_UPDATES = 4  # fused in a call
_UPDATE_FLOOR = 0.8  # share of the best update rate that samplers must leave
_GPU_HZ = 3.7e6  # rows per second; derived for one modern GPU, not measured


def measure(config, run: Run) -> list[Claim]:
    """The tuners against the whole grids, and the rate that it ends with against the ceiling."""
    algorithm = SACConfig(config.rate_obs_dim, config.rate_act_dim, config.rate_hidden)
    result = run.once("update_rates", lambda: _tune_and_sweep(config, algorithm))
    sizes, grid, rates = result["sizes"], result["grid"], result["cpu_grid"]
    run.figure("update_rates", figures.update_rates(result, algorithm))
    best, chosen = grid.max(), grid[list(sizes).index(int(result["chosen"]))]
    flops = sum(sac_flops(algorithm, 1))
    ceiling = float(result["matmul_flops"]) / flops
    where = (
        f"{algorithm.hidden} on {algorithm.obs_dim} and {algorithm.act_dim} numbers, "
        f"{flops:,} FLOP a row, load average {float(result['load']):.1f}"
    )
    share = chosen / ceiling
    near, sampled = chosen >= 0.9 * best, ""
    told = "Samplers are tuned from the preset small on (--rate_samplers)."
    if config.rate_samplers:
        samplers = run.once("samplers", lambda: _tune_samplers(config, int(result["chosen"])))
        sampler_share = _share_of_the_best(samplers)
        near = near and sampler_share >= 0.9
        sampled = f"; samplers {int(samplers['chosen'])}: {sampler_share:.0%}"
        told = (
            f"Transitions per second by samplers of {config.speed_env}, beside a learner: "
            f"{_listed(samplers['counts'], samplers['sample_hz'])}; its updates: "
            f"{_listed(samplers['counts'], samplers['update_hz'])}. The best is that of the "
            f"numbers that leave {_UPDATE_FLOOR:.0%} of the updates; another number counts 0."
        )
    verdict, criterion = _judge_rate(config, algorithm, chosen, share)
    return [
        Claim(
            "C3",
            "Parallelisation hyperparameters are adjusted to the hardware",
            "",
            f"batch {int(result['chosen'])}: {chosen / best:.0%} of the best of the grid{sampled}",
            holds(near) if len(sizes) > 1 else "reported",
            detail=f"Rows per second by batch size, wall: {_listed(sizes, grid)}; per processor "
            f"second: {_listed(sizes, rates)}; {where}. {told} Criterion: >= 90%.",
        ),
        Claim(
            "C6",
            "Up to 370,000 rows learned from per second",
            "370,000 Hz",
            f"{chosen:,.0f} Hz, {share:.0%} of what the products alone allow",
            verdict,
            detail=f"Batch {int(result['chosen'])}, {where}; ceiling {ceiling:,.0f} rows/s at "
            f"{float(result['matmul_flops']) / 1e9:.0f} GFLOP/s. The paper's hardware and networks "
            f"are not known. Criterion: {criterion}.",
        ),
    ]


def _judge_rate(config, algorithm: SACConfig, rate: float, share: float) -> tuple[str, str]:
    """The verdict on rows per second, a share of the ceiling, and its criterion."""
    if config.gpu_criteria:
        criterion = f">= {_GPU_HZ:,.0f} Hz on a GPU"
        if jax.default_backend() != "gpu":
            return "reported", f"{criterion}; there is none here"
        return holds(rate >= _GPU_HZ), criterion
    small_net = max(algorithm.hidden) <= 64
    return (
        holds(rate >= 200_000 if small_net else share >= 0.45),
        ">= 200,000 Hz with networks of 64, else >= 45% of the ceiling",
    )


def _share_of_the_best(samplers: dict) -> float:
    """What the chosen number of samplers collects of the most that leaves the learner its rate."""
    harmless = samplers["update_hz"] >= _UPDATE_FLOOR * samplers["update_hz"].max()
    chosen = list(samplers["counts"]).index(int(samplers["chosen"]))
    if not harmless[chosen]:
        return 0.0
    return float(samplers["sample_hz"][chosen] / samplers["sample_hz"][harmless].max())


def _listed(sizes, rates) -> str:
    return ", ".join(f"{size}: {rate:,.0f}" for size, rate in zip(sizes, rates, strict=True))


def _tune_and_sweep(config, algorithm: SACConfig) -> dict:
    meter = RateMeter(algorithm, config.seed, config.rate_seconds)

    def rate(size: int) -> float:
        return meter.measure(size, _UPDATES).wall

    chosen = tune_batch_size(rate, config.batch_sizes, patience=2).best
    grid = [meter.measure(size, _UPDATES) for size in progress(config.batch_sizes, "batch sizes")]
    return {
        "chosen": np.array(chosen),
        "sizes": np.array(config.batch_sizes),
        "grid": np.array([point.wall for point in grid]),
        "cpu_grid": np.array([point.cpu for point in grid]),
        "matmul_flops": np.array(matmul_flops_per_second()),
        "load": np.array(os.getloadavg()[0]),
    }


def _tune_samplers(config, batch_size: int) -> dict:
    """The tuner's choice in a live system, and the whole grid measured anew there."""
    env = make_vec_env(config.speed_env, 1)
    algorithm = SACConfig(env.obs_dim, env.act_dim, config.rate_hidden)
    env.close()
    # Compiled before the clock runs. One update a call: whole calls are counted, and a window has
    # to hold many.
    RateMeter(algorithm, config.seed).seconds_of_a_call(batch_size, 1)
    host = HostConfig(
        env_id=config.speed_env,
        envs_per_sampler=config.speed_envs,
        batch_size=batch_size,
        updates_per_call=1,
    )
    counts, seconds = config.rate_samplers, 6 * config.rate_seconds
    with live_rates(algorithm, host, max(counts)) as measure:
        chosen = tune_samplers(
            lambda n: measure(n, seconds), counts, update_floor=_UPDATE_FLOOR
        ).best
        # Downwards: all run by now, and one that is started again takes its time.
        grid = {n: measure(n, seconds) for n in reversed(counts)}
    sample_hz, update_hz = np.array([grid[n] for n in counts]).T
    return {
        "chosen": np.array(chosen),
        "counts": np.array(counts),
        "sample_hz": sample_hz,
        "update_hz": update_hz,
    }
