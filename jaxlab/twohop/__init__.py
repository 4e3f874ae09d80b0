"""Two-hop reasoning in context: a transformer, its phase transition, and what causes it.

```
from jaxlab import twohop

task, model = twohop.TaskConfig(), twohop.ModelConfig(dim=64)
recipe = twohop.TrainConfig("muon", lr=1e-2, batch_size=128, steps=1600)
result = twohop.train(jax.random.key(0), task, model, recipe)
twohop.phase_transition(result.history["step"], result.history["target_end"])
logits, cache = twohop.forward_with_cache(result.params, batch.tokens, model)
```

Tianyu Guo, Hanlin Zhu, Ruiqi Zhang, Jiantao Jiao, Song Mei, Michael I. Jordan, Stuart Russell, "How
Do LLMs Perform Two-Hop Reasoning in Context?", arXiv 2502.13913.
"""

from jaxlab.twohop.circuits import random_guess_params, sequential_query_params
from jaxlab.twohop.dissection import Dissection, dissect
from jaxlab.twohop.interventions import EDGE_NAMES, knockout_bias, patch_sweep
from jaxlab.twohop.language import (
    EncodedPrompts,
    answer_rows,
    count_collisions,
    encode_prompts,
    finetune,
    init_finetuning,
    next_token_logits,
    query_attention,
    score_prompts,
)
from jaxlab.twohop.model import (
    Cache,
    Interventions,
    ModelConfig,
    forward,
    forward_with_cache,
    init_params,
    query_logits,
)
from jaxlab.twohop.observables import (
    ATTENTION_ROLES,
    RoleAttention,
    RoleProbs,
    attention_by_role,
    logit_lens,
    ov_logit_lens,
    ov_role_logits,
    role_attention,
    role_probs,
)
from jaxlab.twohop.prompts import (
    Prompt,
    PromptScores,
    TokenPrompt,
    load_prompts_json,
    make_prompts,
    score_next_token,
)
from jaxlab.twohop.seeds import train_seeds
from jaxlab.twohop.task import (
    ROLE_NAMES,
    TaskConfig,
    TwoHopBatch,
    counterfactual,
    role_positions,
    sample_batch,
)
from jaxlab.twohop.three_param import (
    ThreeParam,
    ThreeParamTrajectory,
    three_param_flow,
    three_param_logit,
    three_param_loss,
    three_param_prob,
)
from jaxlab.twohop.training import (
    TrainConfig,
    TrainProgress,
    TrainResult,
    loss_fn,
    make_optimizer,
    train,
)
from jaxlab.twohop.transition import PhaseReport, first_crossing, phase_transition

__all__ = [
    "ATTENTION_ROLES",
    "EDGE_NAMES",
    "ROLE_NAMES",
    "Cache",
    "Dissection",
    "EncodedPrompts",
    "Interventions",
    "ModelConfig",
    "PhaseReport",
    "Prompt",
    "PromptScores",
    "RoleAttention",
    "RoleProbs",
    "TaskConfig",
    "ThreeParam",
    "ThreeParamTrajectory",
    "TokenPrompt",
    "TrainConfig",
    "TrainProgress",
    "TrainResult",
    "TwoHopBatch",
    "answer_rows",
    "attention_by_role",
    "count_collisions",
    "counterfactual",
    "dissect",
    "encode_prompts",
    "finetune",
    "first_crossing",
    "forward",
    "forward_with_cache",
    "init_finetuning",
    "init_params",
    "knockout_bias",
    "load_prompts_json",
    "logit_lens",
    "loss_fn",
    "make_optimizer",
    "make_prompts",
    "next_token_logits",
    "ov_logit_lens",
    "ov_role_logits",
    "patch_sweep",
    "phase_transition",
    "query_attention",
    "query_logits",
    "random_guess_params",
    "role_attention",
    "role_positions",
    "role_probs",
    "sample_batch",
    "score_next_token",
    "score_prompts",
    "sequential_query_params",
    "three_param_flow",
    "three_param_logit",
    "three_param_loss",
    "three_param_prob",
    "train",
    "train_seeds",
]
