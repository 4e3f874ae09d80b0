"""C3 and C6: the batch size that measurement finds, and how many rows a second it learns from."""

import os

import numpy as np

from jaxlab.rl import figures
from jaxlab.rl.rates import sac_flops
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.tuning import tune_batch_size
from jaxlab.rl.update_rate import RateMeter
from jaxlab.runs import Claim, Run, holds, progress
from jaxlab.runs.environment import matmul_flops_per_second

_UPDATES = 4  # fused in a call


def measure(config, run: Run) -> list[Claim]:
    """The tuner against the whole grid, and the rate that it ends with against the ceiling."""
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
    small_net = max(algorithm.hidden) <= 64
    share = chosen / ceiling
    return [
        Claim(
            "C3",
            "Parallelisation hyperparameters are adjusted to the hardware",
            "",
            f"batch {int(result['chosen'])}: {chosen / best:.0%} of the best of the grid",
            holds(chosen >= 0.9 * best),
            detail=f"Rows per second by batch size, wall: {_listed(sizes, grid)}; per processor "
            f"second: {_listed(sizes, rates)}; {where}. Criterion: >= 90%. Samplers are tuned by "
            "--autotune.",
        ),
        Claim(
            "C6",
            "Up to 370,000 rows learned from per second",
            "370,000 Hz",
            f"{chosen:,.0f} Hz, {share:.0%} of what the products alone allow",
            holds(chosen >= 200_000 if small_net else share >= 0.45),
            detail=f"Batch {int(result['chosen'])}, {where}; ceiling {ceiling:,.0f} rows/s at "
            f"{float(result['matmul_flops']) / 1e9:.0f} GFLOP/s. The paper's hardware and networks "
            "are not known. Criterion: >= 200,000 Hz with networks of 64, else >= 45% of the "
            "ceiling.",
        ),
    ]


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
