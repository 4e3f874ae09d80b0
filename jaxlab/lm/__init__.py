"""Decoder-only language models: one pure-functional decoder for eight checkpoint families.

from jaxlab import lm
cfg, params = lm.load_hf("path/to/llama")
tokenizer = lm.load_tokenizer("path/to/llama")
tokens, mask = tokenizer.encode_batch(["Once upon a time"])                # [B, T], left-padded
out = lm.generate(jax.random.key(0), params, cfg, tokens, attention_mask=mask, max_new_tokens=32)
loss, weight = lm.next_token_loss(params, cfg, {"tokens": tokens, "attention_mask": mask})
"""

from jaxlab.lm.cache import KVCache, extend, init_cache, resize_cache, take_rows
from jaxlab.lm.config import LMConfig, RopeScaling
from jaxlab.lm.data import (
    Batches,
    Document,
    encode_document,
    encode_prompt,
    pack,
    pad_documents,
    read_documents,
)
from jaxlab.lm.decoding import GenerateResult, decode
from jaxlab.lm.evaluation import evaluate_loss
from jaxlab.lm.generation import generate, generation_defaults, stream_generate
from jaxlab.lm.hf_checkpoint import load_hf, save_hf
from jaxlab.lm.hf_config import config_from_hf, config_to_hf
from jaxlab.lm.hf_lora import load_lora
from jaxlab.lm.layers import head_logits
from jaxlab.lm.lora import Lora, init_lora, merge_lora
from jaxlab.lm.losses import (
    next_token_loss,
    sequence_log_probs,
    sequence_scores,
    token_log_probs,
)
from jaxlab.lm.masks import check_ids
from jaxlab.lm.model import LMOutput, forward, make_apply_fn
from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer, make_schedule
from jaxlab.lm.params import count_params, flops_per_token, init_params, summary
from jaxlab.lm.sampling import SamplingConfig, process_logits, sample
from jaxlab.lm.sharding import param_specs
from jaxlab.lm.stories import write_stories
from jaxlab.lm.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from jaxlab.lm.training import (
    TrainState,
    init_train_state,
    latest_step,
    make_train_step,
    restore_state,
    save_state,
    train,
)

__all__ = [
    "Batches",
    "Document",
    "GenerateResult",
    "KVCache",
    "LMConfig",
    "LMOutput",
    "Lora",
    "OptimizerConfig",
    "RopeScaling",
    "SamplingConfig",
    "Tokenizer",
    "TrainState",
    "check_ids",
    "config_from_hf",
    "config_to_hf",
    "count_params",
    "decode",
    "encode_document",
    "encode_prompt",
    "evaluate_loss",
    "extend",
    "flops_per_token",
    "forward",
    "generate",
    "generation_defaults",
    "head_logits",
    "init_cache",
    "init_lora",
    "init_params",
    "init_train_state",
    "latest_step",
    "load_hf",
    "load_lora",
    "load_tokenizer",
    "make_apply_fn",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "merge_lora",
    "next_token_loss",
    "pack",
    "pad_documents",
    "param_specs",
    "process_logits",
    "read_documents",
    "resize_cache",
    "restore_state",
    "sample",
    "save_hf",
    "save_state",
    "sequence_log_probs",
    "sequence_scores",
    "stream_generate",
    "summary",
    "take_rows",
    "token_log_probs",
    "train",
    "train_tokenizer",
    "write_stories",
]
