"""C4 and C10: one arm better than all others, the problems of minimax lower bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.baselines import greedy_policy
from jaxlab.bandits.instances import draw_stats
from jaxlab.bandits.studies.methods import Calibration, calibrate, decide, over_keys
from jaxlab.runs import Claim, Run, holds, progress, study_key

_SCALES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # gaps over sqrt(C* / N)
_JUNK_SCALES = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_MINIMAX_DRAWS = 20_000  # few arms: draws are cheap, and the penalties' own noise must not show
CASES = {
    "2 arms, equal counts": lambda N: np.full(2, N / 2),
    "2 arms, C* = 5": lambda N: np.array([N / 5, 4 * N / 5]),
    "10 arms, equal counts": lambda N: np.full(10, N / 10),
    "10 arms, half of N on the best": lambda N: np.array([N / 2] + [N / 18] * 9),
}
SIZES = (100, 400, 1600)


def measure_minimax(config, run: Run) -> list[Claim]:
    """Worst suboptimality over gaps, in units of sqrt(C* / N), at three sizes of the log."""
    result = run.once("minimax", lambda: _minimax(config))
    run.figure("minimax", figures.minimax(result, tuple(CASES)))
    drift = max(
        np.ptp(rates) / np.mean(rates)
        for case in result.values()
        for name, rates in case.items()
        if name in ("union", "joint")
    )
    bounded = all(
        (result[name]["joint"] <= 5 * result[name]["lcb"] + 0.2).all()
        for name in CASES
        if "equal" in name
    )
    return [
        Claim(
            "C4",
            "The sample complexity is comparable to LCB's on minimax problems",
            "",
            "; ".join(
                f"{name}: TRUST {case['joint'].mean():.2f} (joint), {case['union'].mean():.2f} "
                f"(union), LCB {case['lcb'].mean():.2f}, greedy {case['greedy'].mean():.2f}"
                for name, case in ((name, result[name]) for name in CASES)
            ),
            holds(drift <= 0.1 and bounded),
            detail=f"Largest mean suboptimality over gaps of {_SCALES[0]} to {_SCALES[-1]} times "
            f"sqrt(C* / N), sigma = 1, {config.minimax_logs} logs a gap, N = 100, 400, 1600 "
            "averaged. Criterion: TRUST's is constant in N within 10% (the rate is sqrt(C* / N); "
            f"measured {100 * drift:.1f}%), and joint <= 5 LCB + 0.2 with equal counts.",
        )
    ]


def measure_junk(config, run: Run) -> list[Claim]:
    """A well sampled best arm among many that were sampled once."""
    result = run.once("junk", lambda: _junk(config))
    run.figure("many_bad_arms", figures.many_bad_arms(result, config))
    value = result["value"]
    worst = result["worst"]
    best = value["best"].mean(1)
    grows = " (it grows)" if (np.diff(worst["joint"]) > 0).all() else ""
    return [
        Claim(
            "C10",
            "Limitation: where many badly sampled arms surround a well sampled best arm, TRUST "
            "does not match LCB",
            "",
            "; ".join(
                f"n = {n}: TRUST {value['joint'][i].mean():.2f}, LCB {value['lcb'][i].mean():.2f}, "
                f"better certified {best[i]:.2f}"
                for i, n in enumerate(config.junk_counts)
            ),
            holds((best >= 0.95).all()),
            detail="Value of the policy, best arm 1 seen n times, n other arms 0 seen once, "
            f"{config.num_seeds} seeds. Normalised worst case at N = 100, 400, 1600: TRUST "
            f"{', '.join(f'{x:.1f}' for x in worst['joint'])}{grows}, better certified "
            f"{', '.join(f'{x:.1f}' for x in worst['best'])}. Criterion: best_certified >= 0.95.",
        )
    ]


def _minimax(config) -> dict:
    """For every case and method the normalised worst cases `[sizes]`."""
    result = {}
    for number, (name, counts_at) in enumerate(progress(CASES.items(), "minimax problems")):
        rows = []
        for size in SIZES:
            key = jax.random.fold_in(study_key(config, 3), 10_000 * number + size)
            counts = _pad(np.maximum(np.round(counts_at(size)), 1), 10)
            rows.append(_worst(key, counts, _SCALES, config, config.minimax_logs, _MINIMAX_DRAWS))
        result[name] = jax.tree.map(lambda *x: np.stack(x), *rows)
    return result


def _junk(config) -> dict:
    """`value[method] [counts, S]` with a gap of 1, and `worst[method] [sizes]` over gaps."""
    length = 1 + max(*config.junk_counts, *(size // 2 for size in SIZES))
    values, rows = [], []
    for n in progress(config.junk_counts, "many bad arms"):
        key = jax.random.fold_in(study_key(config, 4), n)
        counts = _pad(np.append(n, np.ones(n)), length)
        # C* = 2 and N = 2 n: a gap of 1 is sqrt(n) units of sqrt(C* / N).
        gaps = np.full(len(_JUNK_SCALES), math.sqrt(n))
        shares = _shares(key, counts, gaps, config, config.num_seeds, config.num_samples)
        values.append({name: share[:, 0] for name, share in shares.items()})
    for size in progress(SIZES, "many bad arms"):
        key = jax.random.fold_in(study_key(config, 5), size)
        counts = _pad(np.append(size // 2, np.ones(size // 2)), length)
        rows.append(_worst(key, counts, _JUNK_SCALES, config, config.num_seeds, config.num_samples))
    return {
        "value": jax.tree.map(lambda *x: np.stack(x), *values),
        "worst": jax.tree.map(lambda *x: np.stack(x), *rows),
    }


def _pad(counts: np.ndarray, length: int) -> np.ndarray:
    """Unseen arms change nothing, and one program serves all sizes."""
    return np.pad(counts, (0, length - counts.size))


def _worst(key, counts, scales, config, num_logs, num_samples) -> dict:
    """For every method `max_c c E[1 - w_best]`: the largest mean suboptimality over gaps."""
    shares = _shares(key, counts, scales, config, num_logs, num_samples)
    return {name: (np.array(scales) * (1 - share.mean(0))).max() for name, share in shares.items()}


def _shares(key, counts, scales, config, num_logs, num_samples) -> dict:
    """For every method the weight `[num_logs, scales]` of the best arm, which comes first."""
    calibration_key, data_key = jax.random.split(key)
    se2 = np.where(counts > 0, 1 / np.maximum(counts, 1), np.inf)
    calibration = calibrate(calibration_key, se2, config, num_samples)
    operands = jnp.asarray(counts, jnp.float32), jnp.asarray(scales, jnp.float32), calibration
    problems = counts.size * len(scales)
    return over_keys(_at_gaps, config, data_key, num_logs, problems, *operands)


def _at_gaps(config, key, counts, scales, calibration: Calibration) -> dict:
    unit = 1 / jnp.sqrt(counts[0])  # sqrt(C* / N), as C* = N / N_best

    def at_gap(key, scale):
        mean = jnp.zeros_like(counts).at[0].set(scale * unit)
        stats = draw_stats(key, mean, 1.0, counts)
        results = decide(stats, calibration, config)
        share = {name: result.policy[0] for name, result in results.items()}
        return share | {"greedy": greedy_policy(stats)[0]}

    return jax.vmap(at_gap)(jax.random.split(key, scales.size), scales)
