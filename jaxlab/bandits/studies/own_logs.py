"""The user's own logs: a policy and its certificate, saved for deployment."""

import io

import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.arms import ArmStats, arm_stats, returns_to_arms
from jaxlab.bandits.baselines import best_certified, lcb
from jaxlab.bandits.logged_data import (
    LoggedReturns,
    load_log,
    load_minari_returns,
    load_returns,
)
from jaxlab.bandits.noise import bounded_sigma
from jaxlab.bandits.studies.methods import trust_config
from jaxlab.bandits.trust import trust
from jaxlab.runs import Claim, Run, digest, study_key

_FIXED_COUNTS = "Valid where the number of rewards of an arm does not depend on rewards."


def measure(config, run: Run) -> list[Claim]:
    """One reported row for each of --log, --returns and --minari that is given."""
    claims = []
    if config.log is not None:
        claims.append(_rewards(config, run))
    if config.returns is not None:
        claims.append(_returns(config, run, "returns", load_returns(config.returns)))
    if config.minari:
        claims.append(_returns(config, run, "minari", load_minari_returns(list(config.minari))))
    return claims


def _rewards(config, run: Run) -> Claim:
    log = load_log(config.log)
    sigma, source = config.sigma, "given"
    if sigma is None and np.isin(log.rewards, (0, 1)).all():
        # The plug-in deviation of rare events is no noise level (see the study of Open Bandit), and
        # Kearns and Saul's is one up to the largest rate of an arm, which a log does not tell.
        sigma, source = bounded_sigma(0, 1), "Hoeffding, rewards of 0 and 1"
    stats = arm_stats(log.actions, log.rewards.astype(np.float32), log.num_arms, sigma)
    caveat = _FIXED_COUNTS
    if log.adaptive:
        caveat = (
            "NOT VALID as it stands: an arm was logged with several propensities, so the logging "
            "policy changed and counts may depend on rewards."
        )
    return _certify(config, run, "log", stats, source if sigma else "pooled within arms", caveat)


def _returns(config, run: Run, name: str, logged: LoggedReturns) -> Claim:
    stats = returns_to_arms(logged.returns.astype(np.float32), logged.mask, config.sigma)
    source = "given" if config.sigma else "pooled within policies"
    return _certify(config, run, name, stats, source, _FIXED_COUNTS)


def _certify(config, run: Run, name: str, stats: ArmStats, noise_source: str, caveat: str) -> Claim:
    """Decides, writes `NAME_policy.npz` and `NAME_certificate.json`, and makes the row."""
    num_arms = stats.mean.size
    # Another file under the same name is another phase.
    phase = f"own_{name}_{digest(stats)}"
    result = run.once(phase, lambda: _decide(config, stats))
    source = ("TRUST", "LCB")[int(result["best"]["source"])]
    with io.BytesIO() as buffer:
        np.savez(
            buffer,
            policy=result["best"]["policy"],
            reference=result["trust"]["reference"],
            mean=stats.mean,
            count=stats.count,
            noise_var=stats.noise_var,
        )
        path = run.write_bytes(f"{name}_policy.npz", buffer.getvalue())
    certificate = {
        "policy": path.name,
        "method": source,
        "lower_bound": float(result["best"]["lower_bound"]),
        "probability": 1 - 2 * config.delta - config.delta_ref,
        "trust": {
            "lower_bound": float(result["trust"]["lower_bound"]),
            "reference_lower_bound": float(result["trust"]["reference_lower_bound"]),
            "radius": float(result["trust"]["radius"]),
            "index": int(result["trust"]["index"]),
            "probability": (1 - config.delta) * (1 - config.delta_ref),
        },
        "lcb": {
            "lower_bound": float(result["lcb"]["lower_bound"]),
            "arm": int(result["lcb"]["arm"]),
            "probability": 1 - config.delta,
        },
        "arms": num_arms,
        "arms_with_data": int((np.asarray(stats.count) > 0).sum()),
        "rewards": int(np.asarray(stats.count).sum()),
        "noise_deviation": float(np.sqrt(np.asarray(stats.noise_var)).max()),
        "noise_from": noise_source,
        "caveat": caveat,
    }
    run.write_json(f"{name}_certificate.json", certificate)
    run.figure(f"own_{name}", figures.own_log(result, np.asarray(stats.mean)))
    support = np.count_nonzero(result["best"]["policy"] > 0)
    return Claim(
        f"own-{name}",
        "A policy and its certificate from the user's log",
        "",
        f"{source} certifies {certificate['lower_bound']:.4g} with {support} of {num_arms} arms; "
        f"TRUST {certificate['trust']['lower_bound']:.4g}, LCB "
        f"{certificate['lcb']['lower_bound']:.4g}, reference "
        f"{certificate['trust']['reference_lower_bound']:.4g}",
        "reported",
        detail=f"Noise deviation {certificate['noise_deviation']:.4g} ({noise_source}). {caveat} "
        f"Written to artifacts/{path.name} and artifacts/{name}_certificate.json.",
    )


def _decide(config, stats: ArmStats) -> dict:
    decided = trust(study_key(config, 15), stats, trust_config(config, "joint", stats.mean.size))
    return {
        "trust": decided._asdict(),
        "lcb": lcb(stats, config.delta)._asdict(),
        "best": best_certified(stats, decided, config.delta)._asdict(),
    }
