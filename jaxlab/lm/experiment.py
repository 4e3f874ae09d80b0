"""The language model's experiments: conformance checks, the copy task, and text of one's own.

`train`, `eval` and `generate` are a command line for text files and checkpoints; `all` measures
every claim, training on generated stories.
"""

from dataclasses import dataclass

import jax
import numpy as np

from jaxlab.lm import conformance, figures
from jaxlab.lm.config import LMConfig
from jaxlab.lm.copying import copy_batch
from jaxlab.lm.generation import generate
from jaxlab.lm.losses import next_token_loss
from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer
from jaxlab.lm.params import init_params
from jaxlab.lm.sampling import SamplingConfig
from jaxlab.lm.text_experiment import evaluate_on_text, generate_text, train_on_text
from jaxlab.lm.training import train
from jaxlab.runs import Claim, Run, claim_order, holds, not_run, option


@dataclass(frozen=True)
class Config:
    """Settings of the script; sizes of a model are ignored where `model` names a folder."""

    experiment: str = option(
        "all",
        "checks and copy measure claims; train, eval and generate work on your text and folders; "
        "all measures every claim",
        choices=("all", "checks", "copy", "train", "eval", "generate"),
    )
    seed: int = option(0, "seed of weights, data order and sampling")

    train: str = option("", "text file, JSONL file or folder to train on; empty: stories")
    valid: str = option("", "text to evaluate on; empty: a held-out part of the training text")
    stories: int = option(2000, "number of generated stories where no file is given")
    model: str = option("", "Hugging Face folder, or workdir of an earlier run, to start from")
    tokenizer: str = option("", "tokenizer folder; empty: the model's, else trained on the text")
    vocab_size: int = option(512, "size of a tokenizer that is trained")

    architecture: str = option("llama", "kind of a new model", choices=("llama", "gpt2"))
    d_model: int = option(64, "width")
    n_layers: int = option(2, "blocks")
    n_heads: int = option(4, "attention heads")
    n_kv_heads: int | None = option(None, "key and value heads (llama); None: as many as heads")
    d_ff: int | None = option(None, "hidden width of the MLP; None: 4 d_model, or 8/3 if gated")
    seq_len: int = option(128, "tokens per row, and the longest context of a new model")

    steps: int = option(120, "optimizer steps")
    batch_size: int = option(16, "rows per step, over all devices and micro-batches")
    grad_accum: int = option(1, "micro-batches per device and step")
    parallel: str = option("jit", "pmap splits rows over local devices", choices=("jit", "pmap"))
    mesh: tuple[int, ...] = option((), "FSDP,TENSOR: devices that a larger model is split over")
    compute_dtype: str = option(
        "auto",
        "of activations; auto is bfloat16 on accelerators and float32 on CPU",
        choices=("auto", "float32", "bfloat16"),
    )
    remat: str = option(
        "none", "what the backward pass recomputes", choices=("none", "full", "dots")
    )
    unroll: int = option(1, "blocks per step of the scan over layers")
    loss_chunk: int = option(0, "tokens per piece of head and loss; 0: all at once")
    z_loss: float = option(0.0, "weight of logsumexp squared in the training loss")

    peak_lr: float = option(3e-3, "learning rate after warmup")
    schedule: str = option(
        "cosine", "after warmup", choices=("cosine", "linear", "constant", "wsd")
    )
    warmup_steps: int = option(15, "steps of warmup")
    end_lr_ratio: float = option(0.1, "final over peak learning rate")
    weight_decay: float = option(0.1, "decoupled decay of the matrices")
    b2: float = option(0.95, "Adam's second moment")
    clip_norm: float = option(1.0, "largest global gradient norm; 0: off")
    lora_rank: int = option(0, "rank of adapters, which alone are then trained; 0: all weights")
    lora_alpha: float = option(16.0, "scale of adapters, divided by their rank")
    lora_targets: tuple[str, ...] = option(
        ("wq", "wk", "wv", "wo"), "matrices that get an adapter (also w_up, w_gate, w_down)"
    )
    eval_every: int = option(40, "steps between evaluations, each with a checkpoint")
    eval_rows: int = option(64, "rows of the held-out text that an evaluation reads; 0: all")

    prompt: str = option("One morning, Ada found", "what to continue")
    chat: bool = option(False, "treat the prompt as a user's message of the chat template")
    max_new_tokens: int = option(64, "length of a continuation")
    temperature: float | None = option(
        None, "0 is greedy. None, here and below: what the model's folder says, else plain"
    )
    top_k: int | None = option(None, "keep the k best tokens")
    top_p: float | None = option(None, "keep the best tokens of this total probability")
    min_p: float | None = option(None, "drop tokens below this share of the best one's chance")
    repetition_penalty: float | None = option(None, "above 1: avoid tokens already seen")

    copy_steps: int = option(80, "steps of the copy task, at most 400")


PRESETS = {
    "smoke": Config(),
    "small": Config(
        stories=20_000,
        vocab_size=1024,
        d_model=160,
        n_layers=4,
        n_heads=5,
        steps=800,
        warmup_steps=80,
        eval_every=50,
        eval_rows=256,
        copy_steps=400,
    ),
    "paper": Config(
        stories=500_000,
        vocab_size=8192,
        architecture="gpt2",
        d_model=768,
        n_layers=12,
        n_heads=12,
        seq_len=1024,
        steps=5000,
        batch_size=64,
        parallel="pmap",
        remat="dots",
        loss_chunk=8192,
        peak_lr=6e-4,
        warmup_steps=200,
        eval_every=250,
        eval_rows=0,
        copy_steps=400,
    ),
}


def run(config: Config, run: Run) -> list[Claim]:
    """Runs `config.experiment`; "all" measures every claim that needs no peer."""
    parts = {
        "checks": _check,
        "copy": _copy,
        "train": train_on_text,
        "eval": evaluate_on_text,
        "generate": generate_text,
    }
    if config.experiment != "all":
        return run.write_claims(parts[config.experiment](config, run))
    claims = [*_check(config, run), *_copy(config, run), *_need_peers()]
    claims.sort(key=claim_order)
    return run.write_claims([*claims, *train_on_text(config, run)])


def _check(config: Config, run: Run) -> list[Claim]:
    key = jax.random.key(config.seed)
    cache = run.once("cache", lambda: conformance.measure_cache(key))
    resume_dir = run.checkpoint_dir("resume")
    resume = run.once("resume", lambda: conformance.measure_resume(key, resume_dir))
    alone = run.once("batch", lambda: conformance.measure_batch_invariance(key))
    return [
        Claim(
            "L2",
            "Decoding with the cache equals the full forward pass; the padding side is irrelevant",
            "",
            f"{cache['logit_error']:.1e}; {cache['greedy_agreement']:.0%} equal",
            holds(cache["logit_error"] < 1e-4 and cache["greedy_agreement"] == 1),
            detail="perturbed random models of two architectures, fed in pieces of 7, 1, 7 and 1. "
            "Criterion: < 1e-4, all greedy tokens equal.",
        ),
        _split_claim(config, run),
        Claim(
            "L5",
            "Three steps, a checkpoint and three steps equal six steps to the last bit",
            "",
            f"{int(resume['differing'])} of {int(resume['entries'])} entries differ",
            holds(resume["differing"] == 0),
            detail="parameters, both Adam moments and counters, through a saved checkpoint. "
            "Criterion: none differs.",
        ),
        Claim(
            "L6",
            "A row's samples do not depend on its batch",
            "",
            f"{alone['agreement']:.0%} of {int(alone['tokens'])} tokens equal",
            holds(alone["agreement"] == 1),
            detail="six prompts of different lengths, alone and in one padded batch. "
            "Criterion: all tokens equal.",
        ),
        _sharding_claim(config, run),
    ]


_FOUR_DEVICES = (
    "XLA_FLAGS=--xla_force_host_platform_device_count=4 makes four devices of a CPU; the tests "
    "measure this row so"
)


def _split_claim(config: Config, run: Run) -> Claim:
    statement = "pmap, jit and gradient accumulation take the same step, with unequal loss masks"
    if jax.local_device_count() < 4:
        return not_run("L4", statement, f"needs four devices; {_FOUR_DEVICES}")
    key = jax.random.key(config.seed)
    errors = run.once("splits", lambda: conformance.measure_splits(key, 4))
    worst = max(errors.values())
    return Claim(
        "L4",
        statement,
        "",
        f"{worst:.1e}",
        holds(worst < 1e-4),
        detail="largest difference of a parameter after 3 steps, four devices. Criterion: < 1e-4.",
    )


def _sharding_claim(config: Config, run: Run) -> Claim:
    statement = "A model split over a 2 x 2 mesh computes what it computes on one device"
    if jax.device_count() < 4 or jax.process_count() > 1:
        reason = f"needs four devices of one process; {_FOUR_DEVICES}"
        return not_run("L9", statement, reason)
    numbers = run.once(
        "sharding", lambda: conformance.measure_sharding(jax.random.key(config.seed))
    )
    return Claim(
        "L9",
        statement,
        "",
        f"{numbers['logit_error']:.1e}; a device holds {numbers['largest_share']:.0%} of a matrix",
        holds(numbers["logit_error"] < 1e-4 and numbers["largest_share"] == 0.25),
        detail="logits. Criterion: < 1e-4, every matrix split four ways.",
    )


_COPY = LMConfig(
    vocab_size=64,
    d_model=64,
    n_layers=2,
    n_heads=4,
    n_kv_heads=4,
    head_dim=16,
    d_ff=128,
    max_seq_len=33,
)


def _copy(config: Config, run: Run) -> list[Claim]:
    curve = run.once("copy", lambda: _learn_to_copy(config.seed, config.copy_steps))
    run.figure("copying", figures.copying(curve["steps"], curve["losses"], _COPY.vocab_size))
    loss, accuracy = float(curve["losses"][-1]), float(curve["accuracy"])
    return [
        Claim(
            "L10",
            "Two layers of width 64 learn to copy within 400 steps",
            "",
            f"loss {loss:.3g}; {accuracy:.1%} of greedy copies right",
            holds(loss < 0.3 and accuracy > 0.85 and config.copy_steps <= 400),
            detail=f"16 random words of 63, after {config.copy_steps} steps. "
            "Criterion: loss < 0.3, > 85% right.",
        )
    ]


def _learn_to_copy(seed: int, steps: int) -> dict[str, np.ndarray | float]:
    """Trains on the copy task; `steps` and `losses` [N], and greedy `accuracy` on new words."""
    length = _COPY.max_seq_len // 2

    def batch_at(step, batch_size=32):
        return copy_batch(seed, step, batch_size, length=length, vocab_size=_COPY.vocab_size)

    curve = []
    optimizer = make_optimizer(
        OptimizerConfig(1e-2, warmup_steps=20, total_steps=steps, weight_decay=0.01)
    )
    state = train(
        lambda params, batch, key: next_token_loss(params, _COPY, batch),
        optimizer,
        init_params(jax.random.key(seed), _COPY),
        batch_at,
        steps=steps,
        key=jax.random.key(seed),
        on_eval=lambda state, means: curve.append((int(state.step), means["loss"])),
        eval_every=10,
    )
    words = batch_at(steps, batch_size=256)["tokens"]
    copies = generate(
        jax.random.key(seed),
        state.params,
        _COPY,
        words[:, : length + 1],
        max_new_tokens=length,
        sampling=SamplingConfig(temperature=0),
    ).tokens
    numbers, losses = np.transpose(curve)
    accuracy = float(np.mean(np.asarray(copies) == words[:, length + 1 :]))
    return {"steps": numbers, "losses": losses, "accuracy": accuracy}


def _need_peers() -> list[Claim]:
    """The rows that compare with transformers; benchmarks and tests write them."""
    where = "needs transformers and torch: benchmarks/lm.py --workdir=... measures it"
    return [
        not_run(name, statement, f"{where}. Criterion: {criterion}.")
        for name, statement, criterion in (
            ("L1", "One implementation covers eight families", "logits within 1e-4"),
            ("L3", "Checkpoints round-trip through transformers", "bitwise; logits < 1e-6"),
            ("L7", "Decoding is faster than transformers on CPU", ">= 2x at B 1, 1x at B 16"),
            ("L8", "Training is as fast as torch on CPU", ">= 0.9x"),
        )
    ]
