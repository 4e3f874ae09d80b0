"""Offline bandits with very few rewards per arm: TRUST, LCB, and certificates.

```
from jaxlab import bandits

stats = bandits.arm_stats(actions, rewards, num_arms=10_000, sigma=0.5)
result = bandits.trust(jax.random.key(0), stats, bandits.TrustConfig(mode="joint"))
result.policy, result.lower_bound      # probabilities, and a value that they reach w.p. 0.81
bandits.best_certified(stats, result)  # or LCB's arm, where that certifies more
```

What the certificate does not cover: logs whose counts depend on rewards (adaptive policies); a
plug-in deviation of rare events, which is no noise level (`bernoulli_sigma` gives one); and, in
size rather than validity, a well sampled best arm among many badly sampled ones, where LCB is
better and `best_certified` takes it.

Ruiqi Zhang, Yuexiang Zhai, Andrea Zanette, "Is Offline Decision Making Possible with Only Few
Samples? Reliable Decisions in Data-Starved Bandits via Trust Region Enhancement", arXiv 2402.15703.
"""

from jaxlab.bandits.arms import ArmStats, arm_stats, returns_to_arms
from jaxlab.bandits.baselines import (
    CertifiedResult,
    LCBResult,
    behavior_policy,
    best_certified,
    greedy_policy,
    lcb,
    policy_value,
)
from jaxlab.bandits.instances import BanditInstance, draw_stats, good_bad_instance
from jaxlab.bandits.logged_data import (
    LoggedBandit,
    LoggedReturns,
    LoggedRewards,
    load_log,
    load_minari_returns,
    load_open_bandit,
    load_returns,
)
from jaxlab.bandits.noise import bernoulli_sigma, bounded_sigma
from jaxlab.bandits.pendulum import pendulum_policies, pendulum_returns
from jaxlab.bandits.suprema import sample_suprema, supremum_quantile
from jaxlab.bandits.trust import TrustConfig, TrustResult, trust, trust_with_penalty
from jaxlab.bandits.trust_region import (
    radius_grid,
    reference_policy,
    trust_region_argmax,
    trust_region_support,
)
from jaxlab.bandits.width import asymptotic_width

__all__ = [
    "ArmStats",
    "BanditInstance",
    "CertifiedResult",
    "LCBResult",
    "LoggedBandit",
    "LoggedReturns",
    "LoggedRewards",
    "TrustConfig",
    "TrustResult",
    "arm_stats",
    "asymptotic_width",
    "behavior_policy",
    "bernoulli_sigma",
    "best_certified",
    "bounded_sigma",
    "draw_stats",
    "good_bad_instance",
    "greedy_policy",
    "lcb",
    "load_log",
    "load_minari_returns",
    "load_open_bandit",
    "load_returns",
    "pendulum_policies",
    "pendulum_returns",
    "policy_value",
    "radius_grid",
    "reference_policy",
    "returns_to_arms",
    "sample_suprema",
    "supremum_quantile",
    "trust",
    "trust_region_argmax",
    "trust_region_support",
    "trust_with_penalty",
]
