"""C1, C2 and C3: ten thousand arms with one reward each, half of them good."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from jaxlab.bandits import figures
from jaxlab.bandits.arms import ArmStats
from jaxlab.bandits.baselines import policy_value
from jaxlab.bandits.instances import count_good, good_bad_instance
from jaxlab.bandits.studies.methods import Calibration, calibrate, decide, over_keys
from jaxlab.bandits.trust import trust_with_penalty
from jaxlab.bandits.trust_region import reference_policy, support_of
from jaxlab.runs import Claim, Run, holds, progress, spread, study_key

NOISE_VAR = 0.25  # all that a method is told: the noise's standard deviation is at most 1/2
_PATH = 400  # radii along which absolute pessimism is maximised
_FEW_ARMS = 4000  # the criteria hold from here; with fewer arms LCB is not bad
_MANY_ARMS = 10_000


def measure(config, run: Run) -> list[Claim]:
    """Values and certificates over seeds, at the main number of arms and at smaller ones."""
    sizes = sorted({*config.fewer_arms, config.num_arms})
    by_arms = {
        size: run.once(f"starved_{size}", functools.partial(_starved, config, size))
        for size in progress(sizes, "one reward per arm")
    }
    run.figure("starved_by_arms", figures.starved_by_arms(by_arms))
    main = by_arms[config.num_arms]
    run.figure("gain_by_radius", figures.gain_by_radius(main, config.num_arms))
    return [_competitive(config, main), _stochastic(config, main, by_arms), _design(config, main)]


def _competitive(config, main: dict) -> Claim:
    value = main["value"]
    least = 0.88 if config.num_arms >= _MANY_ARMS else 0.84
    reached = min(value["union"].mean(), value["joint"].mean())
    return Claim(
        "C1",
        "With one sample per arm one can still find a policy competitive with the optimal one",
        "",
        f"value {spread(value['joint'])} (joint), {spread(value['union'])} (union); optimum 1",
        judged(config, reached >= least),
        detail=f"{_setting(config)}. Lowest over seeds {value['joint'].min():.3f}; about "
        f"{main['support'].mean():.0f} arms in the support at a radius of "
        f"{main['relative_radius'].mean():.4f} of the largest. Criterion: mean >= {least} in both "
        "modes.",
    )


def _stochastic(config, main: dict, by_arms: dict) -> Claim:
    value, bound = main["value"], main["certificate"]
    trust_bound = np.minimum(bound["union"].mean(), bound["joint"].mean())
    gain = min(value["union"].mean(), value["joint"].mean()) - value["lcb"].mean()
    valid = all((bound[mode] <= value[mode]).all() for mode in ("union", "joint"))
    others = "; ".join(
        f"K = {size}: TRUST {result['value']['joint'].mean():.2f}, LCB "
        f"{result['value']['lcb'].mean():.2f}"
        for size, result in by_arms.items()
        if size != config.num_arms
    )
    return Claim(
        "C2",
        "Stochastic policies can be substantially better than deterministic ones",
        "",
        f"value {value['joint'].mean():.3f} against {value['lcb'].mean():.3f} (LCB = greedy); "
        f"certificate {spread(bound['joint'])} (joint), {spread(bound['union'])} (union) against "
        f"{spread(bound['lcb'])}; reference {spread(bound['reference'])}",
        judged(
            config,
            gain >= 0.6
            and trust_bound - bound["lcb"].mean() >= 1.0
            and trust_bound > bound["reference"].mean() + 0.07
            and valid,
        ),
        detail=f"{_setting(config)}. Criterion, on means over seeds: value 0.6 above LCB's, "
        "certificate 1.0 above LCB's and 0.07 above the reference's; and no certificate above its "
        f"policy's value. Values with fewer arms: {others or 'not asked for'}. A Bayes rule told "
        "the two densities of rewards would be deterministic and near-optimal: the claim is about "
        "methods that are told the noise level alone.",
    )


def _design(config, main: dict) -> Claim:
    bound, index = main["certificate"], main["index"]
    full = min(bound["union"].mean(), bound["joint"].mean())
    largest, absolute = bound["largest_only"].mean(), bound["absolute"].mean()
    inside = all(((i > 0) & (i < config.num_radii - 1)).all() for i in index.values())
    return Claim(
        "C3",
        "Localization, critical radii and relative pessimism make it quite different from LCB",
        "",
        f"certificate {spread(bound['joint'])}; only the largest radius {largest:.3f}; absolute "
        f"pessimism {absolute:.3f}",
        judged(config, full > largest > absolute and inside),
        detail=f"{_setting(config)}. Penalty at the critical radius "
        f"{main['penalty_at_critical'].mean():.3f}, at the largest "
        f"{main['penalty']['joint'][0]:.3f}. Absolute pessimism subtracts chi_K(delta) "
        "sqrt(sum w^2 se2) from the whole value. Criterion: in this order, in both modes, and the "
        "critical radius strictly inside the grid for every seed.",
    )


def judged(config, criterion) -> str:
    """The verdict of a row about the data-starved bandit: with few arms it has no criterion."""
    return holds(criterion) if config.num_arms >= _FEW_ARMS else "reported"


def _setting(config) -> str:
    return f"K = {config.num_arms}, one reward per arm, {config.num_seeds} seeds"


def _starved(config, size: int) -> dict:
    """Per seed `[S]`: values, certificates, critical radii, improvements, for `size` arms.

    Every size is a part of the main bandit, whose other arms count as unseen: one program for all.
    """
    calibration_key, data_key = jax.random.split(jax.random.fold_in(study_key(config, 1), size))
    rank = jnp.arange(config.num_arms)
    good = count_good(config.num_arms, 0.5)
    kept = (rank < (size + 1) // 2) | ((rank >= good) & (rank < good + size // 2))
    calibration = calibrate(calibration_key, jnp.where(kept, NOISE_VAR, jnp.inf), config)
    bonus = math.sqrt(chi2.ppf(1 - config.delta, size))
    seeds = over_keys(
        _one_log, config, data_key, config.num_seeds, config.num_arms, kept, calibration, bonus
    )
    return seeds | {"radii": calibration.radii, "penalty": calibration.penalty}


def _one_log(config, key, kept, calibration: Calibration, bonus) -> dict:
    mean, stats = good_bad_instance(key, config.num_arms)
    stats = stats._replace(count=kept.astype(jnp.int32))
    results = decide(stats, calibration, config)
    radii, joint = calibration.radii, results["joint"]
    largest = trust_with_penalty(stats, radii[:1], calibration.largest_only, config.delta_ref)
    return {
        "value": {name: policy_value(result.policy, mean) for name, result in results.items()}
        | {"reference": policy_value(joint.reference, mean)},
        "certificate": {name: result.lower_bound for name, result in results.items()}
        | {
            "reference": joint.reference_lower_bound,
            "largest_only": largest.lower_bound,
            "absolute": _absolute_pessimism(stats, radii[0], bonus),
        },
        "index": {mode: results[mode].index for mode in calibration.penalty},
        "relative_radius": joint.radius / radii[0],
        "support": (joint.policy > 0).sum(),
        "penalty_at_critical": joint.penalty[jnp.maximum(joint.index, 0)],
        "improvement": joint.improvement,
    }


def _absolute_pessimism(stats: ArmStats, largest: jax.Array, bonus: jax.Array) -> jax.Array:
    """`max_w w . mean - bonus sqrt(sum w^2 se2)`: LCB for all policies at once.

    The maximum is on the path of trust-region solutions, since these maximise `w . mean` at every
    variance of the value.
    """
    radii = largest * jnp.append(0, jnp.geomspace(1e-4, 1, _PATH))
    start = reference_policy(stats.se2) @ stats.mean
    deviation = jnp.sqrt(1 / jnp.sum(1 / stats.se2) + jnp.square(radii))
    return (start + support_of(stats.mean, stats.se2, radii) - bonus * deviation).max()
