"""C4 and C10: one arm better than all others, the problems of minimax lower bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.baselines import greedy_policy
from jaxlab.bandits.instances import draw_stats
from jaxlab.bandits.studies.methods import calibrate, decide, over_keys, study_key
from jaxlab.runs import Claim, Run, holds, progress

_SCALES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # gaps over sqrt(C* / N)
_JUNK_SCALES = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_MINIMAX_DRAWS = 20_000  # few arms: draws are cheap, and the penalties' own noise must not show
_JUNK_DRAWS = 4000
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
    run.figure("minimax", figures.minimax(result))
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
                for name, case in result.items()
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
            f"{', '.join(f'{x:.1f}' for x in worst['joint'])} (it grows), better certified "
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
            counts = np.maximum(np.round(counts_at(size)), 1)
            rows.append(_worst(key, counts, _SCALES, config, config.minimax_logs, _MINIMAX_DRAWS))
        result[name] = jax.tree.map(lambda *x: np.stack(x), *rows)
    return result


def _junk(config) -> dict:
    """`value[method] [counts, S]` with a gap of 1, and `worst[method] [sizes]` over gaps."""
    values, rows = [], []
    for n in config.junk_counts:
        key = jax.random.fold_in(study_key(config, 4), n)
        gap_in_units = math.sqrt(n)  # C* = 2 and N = 2 n: a gap of 1 is sqrt(n) units
        values.append(
            _shares(key, _junk_profile(n), (gap_in_units,), config, config.num_seeds, _JUNK_DRAWS)
        )
    for size in SIZES:
        key = jax.random.fold_in(study_key(config, 5), size)
        counts = _junk_profile(size // 2)
        rows.append(_worst(key, counts, _JUNK_SCALES, config, config.num_seeds, _JUNK_DRAWS))
    return {
        "value": jax.tree.map(lambda *x: np.stack(x)[..., 0], *values),
        "worst": jax.tree.map(lambda *x: np.stack(x), *rows),
    }


def _junk_profile(n: int) -> np.ndarray:
    return np.append(n, np.ones(n))


def _worst(key, counts, scales, config, num_logs, num_samples) -> dict:
    """For every method `max_c c E[1 - w_best]`: the largest mean suboptimality over gaps."""
    shares = _shares(key, counts, scales, config, num_logs, num_samples)
    return {name: (np.array(scales) * (1 - share.mean(0))).max() for name, share in shares.items()}


def _shares(key, counts, scales, config, num_logs, num_samples) -> dict:
    """For every method the weight `[num_logs, scales]` of the best arm, which comes first."""
    calibration_key, data_key = jax.random.split(key)
    counts = jnp.asarray(counts, jnp.float32)
    calibration = calibrate(calibration_key, 1 / counts, config, num_samples)
    unit = jnp.sqrt(1 / counts[0])  # sqrt(C* / N), as C* = N / N_best

    def one(key):
        def at_gap(key, scale):
            mean = jnp.zeros_like(counts).at[0].set(scale * unit)
            stats = draw_stats(key, mean, 1.0, counts)
            results = decide(stats, calibration, config)
            share = {name: result.policy[0] for name, result in results.items()}
            return share | {"greedy": greedy_policy(stats)[0]}

        return jax.vmap(at_gap)(jax.random.split(key, len(scales)), jnp.array(scales))

    return jax.device_get(over_keys(one, data_key, num_logs, counts.size * len(scales)))
