"""Making a language model forget a set of texts and keep the rest: NPO, SimNPO, their baselines.

```
from jaxlab import unlearn

cfg = unlearn.method_config("npo+rt", beta=0.1)      # or simnpo+rt, ga+kl, idk+rt, dpo, kto, ...
result = unlearn.unlearn(
    jax.random.key(0), apply_fn, params, forget, retain=retain, cfg=cfg,
    optimizer=optax.adamw(1e-5), num_steps=100, batch_size=32,
)   # apply_fn(params, tokens [B, T]) -> logits [B, T, V]: any causal language model
unlearn.npo_loss(logp, ref_logp, beta=0.1)            # or only the loss, for a trainer of one's own
unlearn.tofu_report(logs, retrained_logs)             # model utility, forget quality, truth ratios
```

Ruiqi Zhang, Licong Lin, Yu Bai, Song Mei, "Negative Preference Optimization: From Catastrophic
Collapse to Effective Unlearning", arXiv 2404.05868. Chongyu Fan et al., "Simplicity Prevails:
Rethinking Negative Preference Optimization for LLM Unlearning", arXiv 2410.07163.
"""

from jaxlab.unlearn.activations import control_vector, rmu_loss
from jaxlab.unlearn.data import QA, encode_qa, load_qa, relearn_subset, split_indices, stack_rows
from jaxlab.unlearn.divergence import divergence_curve
from jaxlab.unlearn.log_probs import (
    ChunkedHead,
    SeqLogProbs,
    TokenLogProbs,
    chunked_token_logprobs,
    sequence_logprobs,
    token_logprobs,
)
from jaxlab.unlearn.markov import MarkovMixture, markov_kl, markov_mixture, sample_markov
from jaxlab.unlearn.memorization import exact_memorization, extraction_strength, repetition_rate
from jaxlab.unlearn.methods import UnlearnConfig, method_config
from jaxlab.unlearn.muse import (
    MuseCorpus,
    chunk_text,
    knowledge_memory,
    knowledge_prompt,
    load_muse,
    verbatim_memory,
)
from jaxlab.unlearn.objective import data_parallel_loss, make_objective
from jaxlab.unlearn.preference_losses import (
    dpo_loss,
    ga_loss,
    kto_loss,
    kto_reference,
    npo_loss,
    npo_weight,
    simnpo_loss,
    simnpo_weight,
)
from jaxlab.unlearn.privacy import (
    min_k_score,
    min_kpp_score,
    privleak,
    privleak_auc,
    reference_score,
    zlib_score,
)
from jaxlab.unlearn.rouge import Rouge, rouge_l
from jaxlab.unlearn.task_vectors import apply_task_vector, task_vector
from jaxlab.unlearn.tofu import load_refusals, load_tofu, load_tofu_logs
from jaxlab.unlearn.tofu_metrics import (
    ForgetQuality,
    TofuReport,
    forget_quality,
    model_utility,
    normalized_prob,
    option_prob,
    tofu_report,
    truth_ratio,
    truth_ratio_score,
)
from jaxlab.unlearn.token_losses import ceu_loss, kl_loss, satimp_loss, undial_loss, wga_loss
from jaxlab.unlearn.training import (
    init_state,
    make_step,
    reference_logprobs,
    relearn,
    unlearn,
    warmup_linear,
)
from jaxlab.unlearn.types import LMBatch, UnlearnBatch, UnlearnResult, UnlearnState

__all__ = [
    "QA",
    "ChunkedHead",
    "ForgetQuality",
    "LMBatch",
    "MarkovMixture",
    "MuseCorpus",
    "Rouge",
    "SeqLogProbs",
    "TofuReport",
    "TokenLogProbs",
    "UnlearnBatch",
    "UnlearnConfig",
    "UnlearnResult",
    "UnlearnState",
    "apply_task_vector",
    "ceu_loss",
    "chunk_text",
    "chunked_token_logprobs",
    "control_vector",
    "data_parallel_loss",
    "divergence_curve",
    "dpo_loss",
    "encode_qa",
    "exact_memorization",
    "extraction_strength",
    "forget_quality",
    "ga_loss",
    "init_state",
    "kl_loss",
    "knowledge_memory",
    "knowledge_prompt",
    "kto_loss",
    "kto_reference",
    "load_muse",
    "load_qa",
    "load_refusals",
    "load_tofu",
    "load_tofu_logs",
    "make_objective",
    "make_step",
    "markov_kl",
    "markov_mixture",
    "method_config",
    "min_k_score",
    "min_kpp_score",
    "model_utility",
    "normalized_prob",
    "npo_loss",
    "npo_weight",
    "option_prob",
    "privleak",
    "privleak_auc",
    "reference_logprobs",
    "reference_score",
    "relearn",
    "relearn_subset",
    "repetition_rate",
    "rmu_loss",
    "rouge_l",
    "sample_markov",
    "satimp_loss",
    "sequence_logprobs",
    "simnpo_loss",
    "simnpo_weight",
    "split_indices",
    "stack_rows",
    "task_vector",
    "tofu_report",
    "token_logprobs",
    "truth_ratio",
    "truth_ratio_score",
    "undial_loss",
    "unlearn",
    "verbatim_memory",
    "warmup_linear",
    "wga_loss",
    "zlib_score",
]
