"""C5: how much more data LCB needs for the certificate that TRUST gives from one reward per arm."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.baselines import policy_value
from jaxlab.bandits.instances import good_bad_instance
from jaxlab.bandits.studies.methods import Calibration, calibrate, decide, over_keys
from jaxlab.bandits.studies.starved import NOISE_VAR, judged
from jaxlab.runs import Claim, Run, spread, study_key

_FACTOR = 10  # times the data that the criterion asks for


def measure(config, run: Run) -> list[Claim]:
    """Certificates and values as every arm gets more rewards."""
    result = run.once("need", lambda: _by_count(config))
    run.figure("certificate_by_count", figures.certificate_by_count(result))
    target = result["certificate"]["joint"][:, 0].mean()
    pessimist = result["certificate"]["lcb"].mean(0)
    enough = np.flatnonzero(pessimist >= target)
    factor = int(result["counts"][enough[0]]) if enough.size else None
    said = f"{factor} times the data" if factor else f"more than {config.max_count} times the data"
    # An LCB that never gets there needs more than max_count, which may be less than the criterion.
    known = factor is not None or config.max_count + 1 >= _FACTOR
    quick = result["value"]["lcb"][:, 1].mean()
    return [
        Claim(
            "C5",
            "The sample complexity is substantially lower on problems with very few samples",
            "",
            f"LCB needs {said} (TRUST certifies {target:.3f} at n = 1, LCB {pessimist[0]:.3f})",
            judged(config, factor is None or factor >= _FACTOR) if known else "reported",
            detail=f"K = {config.num_arms}, {config.num_seeds} seeds, smallest n at which LCB's "
            f"mean certificate reaches TRUST's (joint) at n = 1. Criterion: >= {_FACTOR}. In value "
            f"LCB needs far less: {quick:.2f} at n = 2, TRUST's "
            f"{spread(result['value']['joint'][:, 0])} at n = 1.",
        )
    ]


def _by_count(config) -> dict:
    """`[S, n_max]` per method: certificates and values at n = 1, ..., n_max."""
    calibration_key, data_key = jax.random.split(study_key(config, 2))
    calibration = calibrate(calibration_key, jnp.full(config.num_arms, NOISE_VAR), config)
    seeds = over_keys(
        _growing_log, config, data_key, config.num_seeds, config.num_arms, calibration
    )
    return seeds | {"counts": np.arange(1, config.max_count + 1)}


def _growing_log(config, key, calibration: Calibration) -> dict:
    """Decisions `[n_max]` from the first n rewards of every arm."""
    num_arms = config.num_arms

    def grow(total, inputs):
        key, count = inputs
        mean, latest = good_bad_instance(key, num_arms)
        total = total + latest.mean
        stats = ArmStats(total / count, jnp.full(num_arms, count), latest.noise_var)
        results = decide(stats, calibration.scaled(1 / jnp.sqrt(count)), config)
        return total, {
            "certificate": {name: result.lower_bound for name, result in results.items()},
            "value": {name: policy_value(r.policy, mean) for name, r in results.items()},
        }

    counts = jnp.arange(1.0, config.max_count + 1)
    keys = jax.random.split(key, config.max_count)
    return jax.lax.scan(grow, jnp.zeros(num_arms), (keys, counts))[1]
