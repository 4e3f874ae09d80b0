"""From the script's Config to what training needs: rows of text, a model, an optimizer.

A training run leaves its model (config, tokenizer, weights) in WORKDIR/artifacts/model and its
checkpoints in WORKDIR/checkpoints/text; `load_model` finds either through the workdir.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlab.lm.config import LMConfig
from jaxlab.lm.data import (
    Batches,
    Conversation,
    encode_document,
    pack,
    pad_documents,
    read_documents,
)
from jaxlab.lm.hf_checkpoint import load_hf, read_config
from jaxlab.lm.hf_config import config_to_hf
from jaxlab.lm.lora import init_lora, merge_lora
from jaxlab.lm.masks import check_ids
from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer
from jaxlab.lm.params import init_params
from jaxlab.lm.sharding import param_specs
from jaxlab.lm.stories import write_stories
from jaxlab.lm.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from jaxlab.lm.training import init_train_state, restore_state

if TYPE_CHECKING:
    from jaxlab.lm.experiment import Config

Rows = dict[str, np.ndarray]

_VALID_STORIES = 400
_VALID_SHARE = 0.05  # of the rows of a text that comes without one to evaluate on


class Model(NamedTuple):
    """What a folder holds; `folder` is where generation_config.json may be."""

    cfg: LMConfig
    params: Any
    tokenizer: Tokenizer
    folder: Path


def load_model(
    path: str | os.PathLike, tokenizer: str = "", *, dtype: Any = None, mesh: Mesh | None = None
) -> Model:
    """Reads a Hugging Face folder, or the newest weights of a training run's workdir.

    Args:
      path: the folder or workdir.
      tokenizer: another folder to take the tokenizer from.
      dtype: of the parameters; None keeps the file's.
      mesh: devices to split the parameters over, with axes "fsdp" and "tensor".

    Raises:
      FileNotFoundError: neither is there, or there is no tokenizer.
    """
    folder = workdir = Path(path)
    if (workdir / "artifacts" / "model").is_dir():
        folder = workdir / "artifacts" / "model"
    if folder != workdir and not any(folder.glob("*.safetensors")):  # a run that has not ended
        cfg = read_config(folder)
        params = _newest_params(workdir, cfg)
        params = jax.tree.map(lambda x: x.astype(dtype or x.dtype), params)
        params = params if mesh is None else jax.device_put(params, _shardings(cfg, mesh))
    elif mesh is None:
        cfg, params = load_hf(folder, dtype=dtype)
    else:
        shardings = _shardings(read_config(folder), mesh)
        cfg, params = load_hf(folder, dtype=dtype, shardings=shardings)
    return Model(cfg, params, load_tokenizer(tokenizer or folder), folder)


# The text.


def read_text(config: "Config", tokenizer: Tokenizer) -> dict[str, Any]:
    """Rows to train on, rows held out, and `floor`, the latter's entropy per token if known."""
    documents = _documents(config)
    rows = pack_documents(config, tokenizer, documents)
    if config.valid:
        valid = pack_documents(config, tokenizer, read_documents(config.valid))
    elif config.train:
        held_out = max(1, int(_VALID_SHARE * len(rows["tokens"])))
        if len(rows["tokens"]) < 2:
            raise ValueError(
                f"{config.train} fills one row of seq_len={config.seq_len} only, none is left to "
                "evaluate on; give --valid or lower --seq_len"
            )
        valid = {name: array[-held_out:] for name, array in rows.items()}
        rows = {name: array[:-held_out] for name, array in rows.items()}
    else:
        return {"train": rows} | _held_out_stories(config, tokenizer)
    return {"train": rows, "valid": valid, "floor": math.nan}


def _documents(config: "Config") -> Sequence[str | Conversation]:
    if config.train:
        return read_documents(config.train)
    return [story.text for story in write_stories(config.seed, config.stories)]


def _held_out_stories(config: "Config", tokenizer: Tokenizer) -> dict[str, Any]:
    """Stories of another seed, one per row, so that their entropy is what a model can reach."""
    stories = write_stories(config.seed + 1_000_003, _VALID_STORIES)
    documents = [encode_document(tokenizer, story.text) for story in stories]
    predicted = sum(len(document.ids) - 1 for document in documents)
    whole = max(len(document.ids) for document in documents) <= config.seq_len
    return {
        "valid": pad_documents(documents, config.seq_len),
        "floor": sum(story.nats for story in stories) / predicted if whole else math.nan,
    }


def pack_documents(config: "Config", tokenizer: Tokenizer, documents: Sequence) -> Rows:
    """Documents in packed rows of `seq_len` tokens."""
    encoded = (encode_document(tokenizer, document) for document in documents)
    return pack(encoded, config.seq_len, pad_id=tokenizer.pad_id or 0)


def check_rows(cfg: LMConfig, rows: Rows) -> None:
    """Raises ValueError for ids, or documents of a length, that the model does not have."""
    check_ids(cfg, rows["tokens"], rows.get("attention_mask"), rows.get("segment_ids"))


def make_batches(config: "Config", rows: Rows) -> Callable[[int], Any]:
    """Batches by step: this process's part of them, split over the mesh if there is one."""
    batches = Batches(rows, config.batch_size, seed=config.seed)
    mesh = _mesh(config)
    if mesh is not None:
        sharding = NamedSharding(mesh, P("fsdp"))
        return lambda step: jax.device_put(batches(step), sharding)
    if config.batch_size % jax.process_count():
        raise ValueError(
            f"batch_size={config.batch_size} does not divide over {jax.process_count()} processes"
        )
    share = config.batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    return lambda step: {name: array[mine] for name, array in batches(step).items()}


# The model.


def initial_model(config: "Config", workdir: Path) -> Model:
    """The model that training starts from, described in the workdir before it begins."""
    folder, mesh = workdir / "artifacts" / "model", _mesh(config)
    if config.model:
        model = load_model(config.model, config.tokenizer, dtype=jnp.float32, mesh=mesh)
        _describe(folder, model.cfg, model.tokenizer)
        return model._replace(folder=folder)
    if folder.is_dir():
        tokenizer = load_tokenizer(folder)
    elif config.tokenizer:
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        tokenizer = train_tokenizer(_plain_texts(_documents(config)), config.vocab_size)
    cfg = _new_config(config, tokenizer)
    _describe(folder, cfg, tokenizer)
    initialise = jax.jit(
        init_params,
        static_argnames="cfg",
        out_shardings=None if mesh is None else _shardings(cfg, mesh),
    )
    return Model(cfg, initialise(jax.random.key(config.seed), cfg=cfg), tokenizer, folder)


def _new_config(config: "Config", tokenizer: Tokenizer) -> LMConfig:
    llama = config.architecture == "llama"
    if config.d_model % config.n_heads:
        raise ValueError(f"n_heads={config.n_heads} must divide d_model={config.d_model}")
    style = {"tie_embeddings": False}
    if not llama:
        style = {
            "norm": "layer",
            "position": "learned",
            "qkv_bias": True,
            "out_bias": True,
            "mlp_bias": True,
            "activation": "gelu_tanh",
            "gated": False,
            "tie_embeddings": True,
        }
    width = 32 * math.ceil(config.d_model * 8 / 3 / 32) if llama else 4 * config.d_model
    return LMConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=config.d_model,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads or config.n_heads,
        head_dim=config.d_model // config.n_heads,
        d_ff=config.d_ff or width,
        max_seq_len=config.seq_len,
        model_type=config.architecture,
        bos_id=tokenizer.bos_id,
        eos_ids=() if tokenizer.eos_id is None else (tokenizer.eos_id,),
        pad_id=tokenizer.pad_id,
        **style,
    )


def _plain_texts(documents: Sequence[str | Conversation]) -> list[str]:
    return [
        text if isinstance(text, str) else "\n".join(str(message["content"]) for message in text)
        for text in documents
    ]


def _describe(folder: Path, cfg: LMConfig, tokenizer: Tokenizer):
    """Leaves config.json and the tokenizer in `folder`, both or neither."""
    if folder.is_dir() or jax.process_index():
        return
    draft = folder.with_name("model.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    tokenizer.save(draft)
    (draft / "config.json").write_text(json.dumps(config_to_hf(cfg), indent=2), encoding="utf-8")
    draft.rename(folder)


def _newest_params(workdir: Path, cfg: LMConfig) -> Any:
    from jaxlab.lm.experiment import Config

    config = Config(**json.loads((workdir / "config.json").read_text(encoding="utf-8"))["config"])
    trained = what_is_trained(config, init_params(jax.random.key(0), cfg))
    state = init_train_state(trained, build_optimizer(config))
    return merge_trained(restore_state(workdir / "checkpoints" / "text", state).params)


def _mesh(config: "Config") -> Mesh | None:
    if not config.mesh:
        return None
    count = math.prod(config.mesh)
    if len(config.mesh) != 2 or count > jax.device_count() or config.parallel != "jit":
        raise ValueError(
            f"mesh={config.mesh} must be FSDP,TENSOR with a product of at most "
            f"{jax.device_count()} devices, and parallel=jit"
        )
    devices = np.array(jax.devices()[:count]).reshape(config.mesh)
    return Mesh(devices, ("fsdp", "tensor"), axis_types=(AxisType.Auto, AxisType.Auto))


def _shardings(cfg: LMConfig, mesh: Mesh) -> Any:
    specs = param_specs(cfg, None, mesh=mesh)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


# What is trained: all parameters, or adapters beside parameters that stay.


def what_is_trained(config: "Config", params: Any) -> Any:
    """The parameters, or {"base": parameters, "lora": adapters}."""
    if not config.lora_rank:
        return params
    lora = init_lora(
        jax.random.key(config.seed),
        params,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        targets=config.lora_targets,
    )
    return {"base": params, "lora": lora}


def split_trained(trained: Any) -> tuple[Any, Any]:
    """(parameters, adapters or None) of what is trained."""
    if "lora" not in trained:
        return trained, None
    return jax.lax.stop_gradient(trained["base"]), trained["lora"]


def merge_trained(trained: Any) -> Any:
    """The parameters with their adapters, if any, merged in."""
    return merge_lora(trained["base"], trained["lora"]) if "lora" in trained else trained


def optimizer_config(config: "Config") -> OptimizerConfig:
    """The optimizer's settings among those of the script."""
    return OptimizerConfig(
        peak_lr=config.peak_lr,
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
        total_steps=config.steps,
        end_lr_ratio=config.end_lr_ratio,
        weight_decay=config.weight_decay,
        b2=config.b2,
        clip_norm=config.clip_norm,
    )


def build_optimizer(config: "Config") -> optax.GradientTransformation:
    """AdamW on what is trained; parameters beside adapters stay as they are."""
    optimizer = make_optimizer(optimizer_config(config))
    if not config.lora_rank:
        return optimizer
    parts = {"trained": optimizer, "kept": optax.set_to_zero()}
    return optax.partition(parts, {"base": "kept", "lora": "trained"})


def compute_dtype(config: "Config") -> Any:
    """Dtype of activations: bfloat16 on accelerators and float32 on CPU unless given."""
    if config.compute_dtype == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(config.compute_dtype)


def loss_options(config: "Config") -> dict[str, Any]:
    """Arguments of `next_token_loss` on which the cost depends, not (but for rounding) the loss."""
    return {
        "chunk": config.loss_chunk,
        "remat": config.remat,
        "unroll": config.unroll,
        "compute_dtype": compute_dtype(config),
    }
