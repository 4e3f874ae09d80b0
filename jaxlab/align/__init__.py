"""Best-of-N and speculative rejection: reward-guided decoding without touching the weights.

```
from jaxlab import align, lm

policy = align.lm_policy(params, cfg, sampling=lm.SamplingConfig(top_k=50))
reward = align.sequence_reward(reward_params, reward_cfg)
search = align.SpecRejConfig(max_new_tokens=2048, capacity_tokens=align.token_capacity(cfg, 2**35))
best = align.speculative_rejection(jax.random.key(0), policy, reward, prompt, search)
best.tokens[: best.length], best.score, best.tokens_generated
```

A policy is three functions, a reward is one: any sampler and any scorer will do. Beside the search:
`best_of_n` (all N from one pool, by `expected_max`), `tree_best_of_n`, votes, soft Best-of-N.

Left out, with reasons: CARDS (rejection of one segment at a time against thresholds per prompt does
not batch in static shapes), reward-guided decoding of single tokens (a reward call per token), and
MBR or pessimistic selection, which are a few lines on the `all_scores` of `best_of_n`.

Hanshi Sun*, Momin Haider*, Ruiqi Zhang*, Huitao Yang, Jiahao Qiu, Ming Yin, Mengdi Wang, Peter L.
Bartlett, Andrea Zanette*, "Fast Best-of-N Decoding via Speculative Rejection", NeurIPS 2024, arXiv
2410.20290.
"""

from jaxlab.align.best_of_n import BestOfNResult, best_of_n
from jaxlab.align.costs import (
    generation_flops,
    kv_bytes_per_token,
    peak_slots,
    reward_flops,
    slots_by_step,
    token_capacity,
)
from jaxlab.align.documents import document_model, document_prompt, gold_reward, sample_documents
from jaxlab.align.policy import LMState, Policy, lm_policy, row_keys
from jaxlab.align.recorded import lifetimes, recorded_policy
from jaxlab.align.responses import RewardFn
from jaxlab.align.rewards import (
    bradley_terry_loss,
    perplexity_reward,
    reward_from_tokens,
    sequence_reward,
)
from jaxlab.align.schedule import (
    PlannedRound,
    SpecRejConfig,
    bucket_ladder,
    initial_rows,
    n_keep,
    plan_round,
    plan_schedule,
)
from jaxlab.align.selection import soft_best_of_n, weighted_vote
from jaxlab.align.speculative import (
    RoundStats,
    SpecRejResult,
    speculative_rejection,
    speculative_rejection_many,
)
from jaxlab.align.statistics import (
    bon_kl_bound,
    equivalent_n,
    expected_max,
    improvement_score,
    partial_final_correlation,
    survival_probability,
    token_saving,
)
from jaxlab.align.tree import tree_best_of_n

__all__ = [
    "BestOfNResult",
    "LMState",
    "PlannedRound",
    "Policy",
    "RewardFn",
    "RoundStats",
    "SpecRejConfig",
    "SpecRejResult",
    "best_of_n",
    "bon_kl_bound",
    "bradley_terry_loss",
    "bucket_ladder",
    "document_model",
    "document_prompt",
    "equivalent_n",
    "expected_max",
    "generation_flops",
    "gold_reward",
    "improvement_score",
    "initial_rows",
    "kv_bytes_per_token",
    "lifetimes",
    "lm_policy",
    "n_keep",
    "partial_final_correlation",
    "peak_slots",
    "perplexity_reward",
    "plan_round",
    "plan_schedule",
    "recorded_policy",
    "reward_flops",
    "reward_from_tokens",
    "row_keys",
    "sample_documents",
    "sequence_reward",
    "slots_by_step",
    "soft_best_of_n",
    "speculative_rejection",
    "speculative_rejection_many",
    "survival_probability",
    "token_capacity",
    "token_saving",
    "tree_best_of_n",
    "weighted_vote",
]
