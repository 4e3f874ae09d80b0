"""Decoder-only language models: one pure-functional decoder for eight checkpoint families.

from jaxlab import lm
cfg, params = lm.load_hf("path/to/llama")
out = lm.forward(params, cfg, tokens)                       # tokens [B, T] -> out.logits
loss, weight = lm.next_token_loss(params, cfg, {"tokens": tokens})
"""

from jaxlab.lm.cache import KVCache, extend, init_cache, resize_cache, take_rows
from jaxlab.lm.config import LMConfig, RopeScaling
from jaxlab.lm.hf_checkpoint import load_hf, save_hf
from jaxlab.lm.hf_config import config_from_hf, config_to_hf
from jaxlab.lm.hf_lora import load_lora
from jaxlab.lm.lora import Lora, init_lora, merge_lora
from jaxlab.lm.losses import (
    next_token_loss,
    sequence_log_probs,
    sequence_scores,
    token_log_probs,
)
from jaxlab.lm.model import LMOutput, forward, make_apply_fn
from jaxlab.lm.params import count_params, flops_per_token, init_params, summary
from jaxlab.lm.sharding import param_specs

__all__ = [
    "KVCache",
    "LMConfig",
    "LMOutput",
    "Lora",
    "RopeScaling",
    "config_from_hf",
    "config_to_hf",
    "count_params",
    "extend",
    "flops_per_token",
    "forward",
    "init_cache",
    "init_lora",
    "init_params",
    "load_hf",
    "load_lora",
    "make_apply_fn",
    "merge_lora",
    "next_token_loss",
    "param_specs",
    "resize_cache",
    "save_hf",
    "sequence_log_probs",
    "sequence_scores",
    "summary",
    "take_rows",
    "token_log_probs",
]
