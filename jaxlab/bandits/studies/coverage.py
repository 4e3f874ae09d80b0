"""C7: penalties and certificates fail as rarely as stated, on logs with uneven counts and noise."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.baselines import policy_value
from jaxlab.bandits.instances import draw_stats
from jaxlab.bandits.studies.methods import calibrate, decide
from jaxlab.bandits.suprema import MODES, sample_suprema
from jaxlab.runs import Claim, Run, holds, progress, spread, study_key

_FRESH = 1000  # suprema that judge each calibration


def measure(config, run: Run) -> list[Claim]:
    """Failures over fresh calibrations, each with fresh noise and fresh logs."""
    result = run.once("coverage", lambda: _failures(config))
    run.figure("violations", figures.violations(result, config))
    event, wrong = result["event"], result["violated"]
    error = {mode: event[mode].std(ddof=1) / np.sqrt(event[mode].size) for mode in MODES}
    rate = {mode: event[mode].mean() for mode in MODES}
    kept = all(rate[mode] <= config.delta + 3 * error[mode] for mode in MODES)
    allowed = config.delta + config.delta_ref
    tight = rate["joint"] >= 0.7 * config.delta
    return [
        Claim(
            "C7",
            "The certificate holds with the stated probability",
            f"penalty fails <= {config.delta:g}, certificate <= {allowed:g}",
            f"penalty {spread(event['joint'])} (joint), {spread(event['union'])} (union); "
            f"certificate {wrong['joint'].mean():.4f} (joint), {wrong['union'].mean():.4f} (union)",
            holds(kept and tight and all(wrong[mode].mean() <= allowed for mode in MODES)),
            detail=f"{config.coverage_arms} arms, 1 to 10 rewards each, deviations 0.3 to 2, "
            f"{config.coverage_repeats} calibrations, {_FRESH} fresh suprema and "
            f"{config.coverage_logs} fresh logs each. Criterion: penalty fails in at most delta "
            "plus 3 standard errors, joint in at least 0.7 delta (it is not loose), certificates "
            "in at most delta + delta_ref.",
        )
    ]


def _failures(config) -> dict:
    """`[repeats]` per mode: `event`, some supremum above its penalty; `violated` certificates."""
    rng = np.random.default_rng(config.seed)
    mean = rng.normal(size=config.coverage_arms).astype(np.float32)
    count = rng.integers(1, 11, config.coverage_arms)
    noise_var = np.square(rng.uniform(0.3, 2.0, config.coverage_arms)).astype(np.float32)
    se2 = jnp.asarray(noise_var / count)

    @jax.jit
    def judge(key, calibration):
        noise_key, log_key = jax.random.split(key)
        fresh = sample_suprema(noise_key, se2, calibration.radii, _FRESH, _FRESH)

        def violated(key):
            results = decide(draw_stats(key, mean, noise_var, count), calibration, config)
            return {
                mode: policy_value(results[mode].policy, mean) < results[mode].lower_bound
                for mode in MODES
            }

        logs = jax.vmap(violated)(jax.random.split(log_key, config.coverage_logs))
        return {
            "event": {m: (fresh > g).any(1).mean() for m, g in calibration.penalty.items()},
            "violated": {mode: failed.mean() for mode, failed in logs.items()},
        }

    rows = []
    for key in progress(
        jax.random.split(study_key(config, 6), config.coverage_repeats), "coverage"
    ):
        calibration_key, judge_key = jax.random.split(key)
        rows.append(jax.device_get(judge(judge_key, calibrate(calibration_key, se2, config))))
    return jax.tree.map(lambda *x: np.stack(x), *rows)
