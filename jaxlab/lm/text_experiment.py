"""Training, evaluating and generating on text: from files to a folder that transformers loads.

A training run leaves its model (config, tokenizer, weights) in WORKDIR/artifacts/model and its
checkpoints in WORKDIR/checkpoints/text; `load_model` finds either through the workdir.
"""

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlab.lm import figures
from jaxlab.lm.config import LMConfig
from jaxlab.lm.data import (
    Batches,
    Conversation,
    encode_document,
    encode_prompt,
    pack,
    pad_documents,
    read_documents,
)
from jaxlab.lm.evaluation import evaluate_loss, matmul_flops_per_second, unigram_loss
from jaxlab.lm.generation import generation_defaults, stream_generate
from jaxlab.lm.hf_checkpoint import load_hf, save_hf
from jaxlab.lm.hf_config import config_from_hf, config_to_hf
from jaxlab.lm.lora import init_lora, merge_lora
from jaxlab.lm.losses import next_token_loss
from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer, make_schedule
from jaxlab.lm.params import count_params, flops_per_token, init_params
from jaxlab.lm.sampling import SamplingConfig
from jaxlab.lm.sharding import param_specs
from jaxlab.lm.stories import write_stories
from jaxlab.lm.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from jaxlab.lm.training import init_train_state, latest_step, restore_state, save_state, train
from jaxlab.runs import Claim, Run, holds

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


def train_on_text(config: "Config", run: Run) -> list[Claim]:
    """Trains or fine-tunes a model, leaves it in the workdir, and reports its loss and speed."""
    model = _initial_model(config, run.workdir)
    cfg = model.cfg
    text = run.once("text", lambda: _read_text(config, model.tokenizer))
    train_rows, valid_rows = text["train"], text["valid"]
    for rows in (train_rows, valid_rows):
        _check_ids(rows, cfg)
    trained, tx = _what_is_trained(config, model.params), _optimizer(config)

    checkpoints, state = run.checkpoint_dir("text"), None
    if latest_step(checkpoints) is not None:
        state = restore_state(checkpoints, init_train_state(trained, tx))

    def loss_fn(trained, batch, key):
        del key
        params, lora = _split(trained)
        return next_token_loss(
            params, cfg, batch, lora=lora, z_loss=config.z_loss, **_loss_options(config)
        )

    schedule = make_schedule(_optimizer_config(config))
    tokens_per_step = config.batch_size * config.seq_len
    clock = _Clock(0 if state is None else int(state.step))

    def on_eval(state, means):
        step = int(state.step)
        rate = clock.steps_per_second(step)
        run.log(
            step,
            loss=means["loss"],
            valid_loss=_evaluate(config, cfg, state.params, valid_rows, config.eval_rows),
            grad_norm=means["grad_norm"],
            learning_rate=float(schedule(step - 1)),
            tokens=step * tokens_per_step,
            tokens_per_s=rate * tokens_per_step,
        )
        save_state(checkpoints, state)
        clock.restart(step)

    state = train(
        loss_fn,
        tx,
        trained,
        _batches(config, train_rows),
        steps=config.steps,
        key=jax.random.key(config.seed),
        state=state,
        on_eval=on_eval,
        eval_every=config.eval_every,
        parallel=config.parallel,
        grad_accum=config.grad_accum,
    )
    params = _merged(state.params)
    if jax.process_index() == 0:
        save_hf(model.folder, cfg, params)
    _continue_prompt(config, run, model._replace(params=params))
    return [
        *_loss_claims(config, run, text, _evaluate(config, cfg, state.params, valid_rows)),
        _speed_claim(config, run, cfg, count_params(params)),
    ]


def evaluate_on_text(config: "Config", run: Run) -> list[Claim]:
    """Perplexity of a text under the model of a folder."""
    source = config.valid or config.train
    if not source:
        raise ValueError("evaluation needs a text: give --valid=FILE")
    model = load_model(_given_folder(config), config.tokenizer, dtype=_compute_dtype(config))
    rows = _pack(config, model.tokenizer, read_documents(source))
    _check_ids(rows, model.cfg)
    loss = _evaluate(config, model.cfg, model.params, rows)
    run.log(0, valid_loss=loss, perplexity=math.exp(loss))
    return [
        Claim(
            "perplexity",
            f"Perplexity of {Path(source).name} under {Path(config.model).name}",
            "",
            f"{math.exp(loss):.5g}",
            "reported",
            detail=f"{loss:.5f} nats per token, {rows['tokens'].size} tokens in rows of "
            f"{config.seq_len}",
        )
    ]


def generate_text(config: "Config", run: Run) -> list[Claim]:
    """Continues the prompt under the model of a folder, on the screen as it comes."""
    folder = _given_folder(config)
    model = load_model(folder, config.tokenizer, dtype=_compute_dtype(config))
    _continue_prompt(config, run, model)
    return []


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
        cfg = _read_config(folder)
        params = _newest_params(workdir, cfg)
        params = jax.tree.map(lambda x: x.astype(dtype or x.dtype), params)
    elif mesh is None:
        cfg, params = load_hf(folder, dtype=dtype)
    else:
        shardings = _shardings(_read_config(folder), mesh)
        cfg, params = load_hf(folder, dtype=dtype, shardings=shardings)
    return Model(cfg, params, load_tokenizer(tokenizer or folder), folder)


# The text.


def _read_text(config: "Config", tokenizer: Tokenizer) -> dict[str, Any]:
    """Rows to train on, rows held out, and `floor`, the latter's entropy per token if known."""
    documents = _documents(config)
    rows = _pack(config, tokenizer, documents)
    if config.valid:
        valid = _pack(config, tokenizer, read_documents(config.valid))
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


def _pack(config: "Config", tokenizer: Tokenizer, documents: Sequence) -> Rows:
    encoded = (encode_document(tokenizer, document) for document in documents)
    return pack(encoded, config.seq_len, pad_id=tokenizer.pad_id or 0)


def _check_ids(rows: Rows, cfg: LMConfig):
    largest = rows["tokens"].max()
    if largest >= cfg.vocab_size:
        raise ValueError(
            f"the tokenizer gives ids up to {largest}, the model has {cfg.vocab_size}; "
            "use the model's own tokenizer"
        )


def _batches(config: "Config", rows: Rows) -> Callable[[int], Any]:
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


def _initial_model(config: "Config", workdir: Path) -> Model:
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


def _read_config(folder: Path) -> LMConfig:
    return config_from_hf(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _newest_params(workdir: Path, cfg: LMConfig) -> Any:
    from jaxlab.lm.experiment import Config

    config = Config(**json.loads((workdir / "config.json").read_text(encoding="utf-8"))["config"])
    trained = _what_is_trained(config, init_params(jax.random.key(0), cfg))
    state = init_train_state(trained, _optimizer(config))
    return _merged(restore_state(workdir / "checkpoints" / "text", state).params)


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


def _what_is_trained(config: "Config", params: Any) -> Any:
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


def _split(trained: Any) -> tuple[Any, Any]:
    """(parameters, adapters or None) of what is trained."""
    if "lora" not in trained:
        return trained, None
    return jax.lax.stop_gradient(trained["base"]), trained["lora"]


def _merged(trained: Any) -> Any:
    return merge_lora(trained["base"], trained["lora"]) if "lora" in trained else trained


def _optimizer_config(config: "Config") -> OptimizerConfig:
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


def _optimizer(config: "Config") -> optax.GradientTransformation:
    optimizer = make_optimizer(_optimizer_config(config))
    if not config.lora_rank:
        return optimizer
    parts = {"trained": optimizer, "kept": optax.set_to_zero()}
    return optax.partition(parts, {"base": "kept", "lora": "trained"})


def _compute_dtype(config: "Config") -> Any:
    if config.compute_dtype == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(config.compute_dtype)


def _loss_options(config: "Config") -> dict[str, Any]:
    return {
        "chunk": config.loss_chunk,
        "remat": config.remat,
        "unroll": config.unroll,
        "compute_dtype": _compute_dtype(config),
    }


def _evaluate(config: "Config", cfg: LMConfig, trained: Any, rows: Rows, limit: int = 0) -> float:
    params, lora = _split(trained)
    return evaluate_loss(
        params,
        cfg,
        {name: array[: limit or None] for name, array in rows.items()},
        batch_size=config.batch_size,
        lora=lora,
        **_loss_options(config),
    )


# What comes out.


def _given_folder(config: "Config") -> str:
    if not config.model:
        raise ValueError(f"{config.experiment} needs a model: give --model=FOLDER")
    return config.model


def _continue_prompt(config: "Config", run: Run, model: Model):
    """Prints the prompt and its continuation as it comes; keeps both in artifacts/sample.txt."""
    tokenizer, text = model.tokenizer, config.prompt
    if config.chat:
        messages = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
    else:
        ids = encode_prompt(tokenizer, text)
    defaults = generation_defaults(model.folder) | {"max_new_tokens": config.max_new_tokens}
    given = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(SamplingConfig)
        if getattr(config, field.name) is not None
    }
    sampling = dataclasses.replace(defaults.pop("sampling", SamplingConfig()), **given)
    compute_dtype = _compute_dtype(config)
    blocks = stream_generate(
        jax.random.key(config.seed),
        model.params,
        model.cfg,
        [ids],
        sampling=sampling,
        compute_dtype=compute_dtype,
        **defaults,
    )
    new, shown = [], ""
    sys.stdout.write(text)
    for block in blocks:
        new += block[0].tolist()
        # A character whose last bytes are still to come decodes to the replacement mark.
        so_far = tokenizer.decode(new, skip_special_tokens=True).rstrip("\ufffd")
        sys.stdout.write(so_far[len(shown) :])
        sys.stdout.flush()
        shown = so_far
    sys.stdout.write("\n\n")
    run.write_text("sample.txt", f"{text}{shown}\n")


def _loss_claims(config: "Config", run: Run, text: dict[str, Any], loss: float) -> list[Claim]:
    floor = None if math.isnan(text["floor"]) else float(text["floor"])
    unigram = unigram_loss(text["valid"])
    run.figure("training", figures.draw_training(run.metrics(), floor, unigram))
    learns = Claim(
        "T1",
        "A model trained through the script predicts text that it has not seen",
        f"< {unigram / 2:.2f}, half of what token frequencies give",
        f"{loss:.3f}",
        holds(loss < unigram / 2),
        unit="nats per token",
        detail=f"{config.steps} steps of {config.batch_size} x {config.seq_len} tokens; "
        f"perplexity {math.exp(loss):.2f}",
    )
    if floor is None:
        return [learns]
    settled = run.preset != "smoke"  # too short for this one
    return [
        learns,
        Claim(
            "T2",
            "Its loss comes down to the entropy of the text, which no model can beat",
            "< 1.05 times the entropy" if settled else "",
            f"{loss / floor:.3f} times the entropy",
            holds(loss < 1.05 * floor) if settled else "reported",
            detail=f"{floor:.3f} nats per token, known since the stories are generated",
        ),
    ]


def _speed_claim(config: "Config", run: Run, cfg: LMConfig, params: int) -> Claim:
    rates = [row["tokens_per_s"] for row in run.metrics() if "tokens_per_s" in row]
    rate = float(np.median(rates[1:] or rates))  # the first interval compiles
    peak = float(
        run.once("peak", lambda: {"flops": matmul_flops_per_second(_compute_dtype(config))})[
            "flops"
        ]
    )
    devices = math.prod(config.mesh) if config.mesh else 1
    if config.parallel == "pmap":
        devices = jax.device_count()
    achieved = rate * 3 * flops_per_token(cfg, (config.seq_len + 1) / 2)
    return Claim(
        "T3",
        "Training speed, against the rate of a large matrix product on the same device",
        "",
        f"{rate:,.0f} tokens/s, {achieved / (peak * devices):.0%} of the peak",
        "reported",
        detail=f"{params / 1e6:.2f}M parameters, {achieved / 1e9:.1f} of {devices} x "
        f"{peak / 1e9:.1f} GFLOP/s",
    )


class _Clock:
    """Steps per second of training, evaluations and checkpoints not counted."""

    def __init__(self, step: int):
        self.restart(step)

    def restart(self, step: int):
        self._step, self._time = step, time.perf_counter()

    def steps_per_second(self, step: int) -> float:
        return (step - self._step) / (time.perf_counter() - self._time)
