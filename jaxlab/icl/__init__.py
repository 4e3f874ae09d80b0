"""In-context learning of a linear transformer block: exact risks, optima, weights, training.

```
from jaxlab import icl

prior = icl.make_prior([2.0] * 5, noise_var=0.25)             # tasks share a mean
print(icl.min_gd_beta_risk(prior, 10))                        # what a block with an MLP reaches
print(icl.optimal_lsa(prior, 10).gap)                         # what attention alone cannot
params = icl.ltb_from_gd_beta(*icl.optimal_gd_beta(prior, 10))
prompts = icl.sample_prompts(jax.random.key(0), prior, num_context=10, batch_size=256)
errors = icl.ltb_apply(params, prompts.tokens) - prompts.target
```

Ruiqi Zhang, Jingfeng Wu, Peter L. Bartlett, "In-Context Learning of a Linear Transformer Block:
Benefits of the MLP Component and One-Step GD Initialization", NeurIPS 2024, arXiv 2402.14951.
"""

from jaxlab.icl.bayes import bayes_predict, bayes_risk
from jaxlab.icl.gd_beta import (
    GDBeta,
    Projection,
    gd_beta_predict,
    gd_beta_risk,
    ltb_from_gd_beta,
    min_gd_beta_risk,
    optimal_gd_beta,
    project_to_gd_beta,
    signal_eigenvalues,
)
from jaxlab.icl.gradient_flow import FlowResult, gradient_flow
from jaxlab.icl.linear_block import (
    Effective,
    LSAParams,
    LTBParams,
    effective,
    init_lsa,
    init_ltb,
    lsa_apply,
    ltb_apply,
)
from jaxlab.icl.optimal_lsa import LSAOptimum, optimal_lsa
from jaxlab.icl.prior import TaskPrior, make_prior
from jaxlab.icl.prompts import Prompts, interleave, make_tokens, sample_prompts, split_tokens
from jaxlab.icl.regression_tasks import (
    RegressionTasks,
    diabetes_tasks,
    estimate_prior,
    load_tasks,
    sample_task_prompts,
)
from jaxlab.icl.risk import icl_risk, lsa_gap_lower_bound
from jaxlab.icl.training import TrainResult, fit_population, train, train_on_tasks
from jaxlab.icl.transformer import ICLTransformer

__all__ = [
    "Effective",
    "FlowResult",
    "GDBeta",
    "ICLTransformer",
    "LSAOptimum",
    "LSAParams",
    "LTBParams",
    "Projection",
    "Prompts",
    "RegressionTasks",
    "TaskPrior",
    "TrainResult",
    "bayes_predict",
    "bayes_risk",
    "diabetes_tasks",
    "effective",
    "estimate_prior",
    "fit_population",
    "gd_beta_predict",
    "gd_beta_risk",
    "gradient_flow",
    "icl_risk",
    "init_lsa",
    "init_ltb",
    "interleave",
    "load_tasks",
    "lsa_apply",
    "lsa_gap_lower_bound",
    "ltb_apply",
    "ltb_from_gd_beta",
    "make_prior",
    "make_tokens",
    "min_gd_beta_risk",
    "optimal_gd_beta",
    "optimal_lsa",
    "project_to_gd_beta",
    "sample_prompts",
    "sample_task_prompts",
    "signal_eigenvalues",
    "split_tokens",
    "train",
    "train_on_tasks",
]
