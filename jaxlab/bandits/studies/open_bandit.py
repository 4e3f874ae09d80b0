"""C11: a real log of rare clicks, and why the plug-in deviation voids the certificate there."""

from typing import Any

import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.arms import arm_stats
from jaxlab.bandits.logged_data import load_open_bandit
from jaxlab.bandits.noise import bernoulli_sigma
from jaxlab.bandits.studies.methods import trust_config
from jaxlab.bandits.suprema import MODES
from jaxlab.bandits.trust import trust
from jaxlab.runs import Claim, Run, digest, holds, not_run, study_key

_STATEMENT = "On a real log of rare clicks the reference is kept, with a valid noise level"


def measure(config, run: Run) -> list[Claim]:
    """TRUST with a valid noise level and with the plug-in one, on the user's copy of the log."""
    if config.obd is None:
        detail = (
            "needs a log of the random policy of the Open Bandit Dataset, which is not shipped: "
            "--obd=FILE"
        )
        return [not_run("C11", _STATEMENT, detail)]
    log = load_open_bandit(config.obd)
    fresh = None if config.obd_fresh is None else load_open_bandit(config.obd_fresh)
    # Another file under the same name is another phase.
    result = run.once(f"open_bandit_{digest(log)}", lambda: _decide(config, log))
    run.figure("open_bandit", figures.open_bandit(result))
    kept = all(result["proxy"][mode]["index"] == -1 for mode in MODES)
    plug_in = result["plug_in"]["joint"]
    item = int(plug_in["policy"].argmax())
    detail = (
        f"{log.rewards.size} rows, {log.num_arms} items, {log.rewards.sum():.0f} clicks. Proxy of "
        f"Kearns and Saul {float(result['proxy_sigma']):.4f}; the plug-in deviation "
        f"{float(result['plug_in_sigma']):.4f} certifies {float(plug_in['lower_bound']):.4f}, "
        f"mostly for item {item} ({result['clicks'][item]:.0f} clicks in "
        f"{result['count'][item]:.0f}): a Gaussian tail is too light for rare events. "
    )
    if fresh is not None:
        shown = fresh.rewards[fresh.actions == item]
        detail += (
            f"An independent log has {shown.sum():.0f} in {shown.size} for it"
            f"{f', a rate of {shown.mean():.4f}' if shown.size else ''}. "
        )
    return [
        Claim(
            "C11",
            _STATEMENT,
            "",
            ", ".join(f"index {int(result['proxy'][mode]['index'])} ({mode})" for mode in MODES),
            holds(kept),
            detail=detail + "Criterion: index -1 in both modes with the proxy. Only logs of the "
            "random policy qualify: those of an adaptive one have counts that depend on rewards.",
        )
    ]


def _decide(config, log) -> dict:
    rate = log.rewards.mean()
    key = study_key(config, 14)
    result: dict[str, Any] = {
        "count": np.bincount(log.actions, minlength=log.num_arms),
        "clicks": np.bincount(log.actions, log.rewards, log.num_arms),
        "proxy_sigma": bernoulli_sigma(rate),
    }
    for name, sigma in (("proxy", result["proxy_sigma"]), ("plug_in", None)):
        stats = arm_stats(log.actions, log.rewards.astype(np.float32), log.num_arms, sigma)
        if sigma is None:
            result["plug_in_sigma"] = np.sqrt(stats.noise_var[0])
        result[name] = {
            mode: _summary(trust(key, stats, trust_config(config, mode, log.num_arms)))
            for mode in MODES
        }
    return result


def _summary(decided) -> dict:
    return {
        "index": decided.index,
        "policy": decided.policy,
        "lower_bound": decided.lower_bound,
        "reference_lower_bound": decided.reference_lower_bound,
    }
