"""Training, evaluating and generating on text: what the script does with files and folders."""

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxlab.lm import figures
from jaxlab.lm.config import LMConfig
from jaxlab.lm.data import encode_prompt, read_documents
from jaxlab.lm.evaluation import evaluate_loss, unigram_loss
from jaxlab.lm.generation import generation_defaults, stream_generate
from jaxlab.lm.hf_checkpoint import save_hf
from jaxlab.lm.losses import next_token_loss
from jaxlab.lm.optimizer import make_schedule
from jaxlab.lm.params import count_params, flops_per_token
from jaxlab.lm.sampling import SamplingConfig
from jaxlab.lm.text_recipe import (
    Model,
    Rows,
    build_optimizer,
    check_rows,
    compute_dtype,
    initial_model,
    load_model,
    loss_options,
    make_batches,
    merge_trained,
    optimizer_config,
    pack_documents,
    read_text,
    split_trained,
    what_is_trained,
)
from jaxlab.lm.training import init_train_state, latest_step, restore_state, save_state, train
from jaxlab.runs import Claim, Run, check_finite, holds, not_run
from jaxlab.runs.environment import matmul_flops_per_second

if TYPE_CHECKING:
    from jaxlab.lm.experiment import Config

_SETTLED_STEPS = 800  # below them the loss is still on its way to the entropy


def train_on_text(config: "Config", run: Run) -> list[Claim]:
    """Trains or fine-tunes a model, leaves it in the workdir, and reports its loss and speed."""
    model = initial_model(config, run.workdir)
    cfg = model.cfg
    text = run.once("text", lambda: read_text(config, model.tokenizer))
    train_rows, valid_rows = text["train"], text["valid"]
    for rows in (train_rows, valid_rows):
        check_rows(cfg, rows)
    tx = build_optimizer(config)
    state = init_train_state(what_is_trained(config, model.params), tx)
    checkpoints = run.checkpoint_dir("text")
    if latest_step(checkpoints) is not None:
        state = restore_state(checkpoints, state)

    def loss_fn(trained, batch, key):
        del key
        params, lora = split_trained(trained)
        return next_token_loss(
            params, cfg, batch, lora=lora, z_loss=config.z_loss, **loss_options(config)
        )

    schedule = make_schedule(optimizer_config(config))
    tokens_per_step = config.batch_size * config.seq_len
    clock = _Clock(int(state.step))

    def on_eval(state, means):
        step = int(state.step)
        check_finite(step, {name: means[name] for name in ("loss", "grad_norm")}, checkpoints)
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
        None,
        make_batches(config, train_rows),
        steps=config.steps,
        key=jax.random.key(config.seed),
        state=state,
        on_eval=on_eval,
        eval_every=config.eval_every,
        parallel=config.parallel,
        grad_accum=config.grad_accum,
    )
    params = merge_trained(state.params)
    if jax.process_index() == 0:
        save_hf(model.folder, cfg, params)
    _continue_prompt(config, run, model._replace(params=params), fit=True)
    return [
        *_loss_claims(config, run, text, _evaluate(config, cfg, state.params, valid_rows)),
        _speed_claim(config, run, cfg, count_params(params)),
    ]


def evaluate_on_text(config: "Config", run: Run) -> list[Claim]:
    """Perplexity of a text under the model of a folder."""
    source = config.valid or config.train
    if not source:
        raise ValueError("evaluation needs a text: give --valid=FILE")
    model = load_model(_given_folder(config), config.tokenizer, dtype=compute_dtype(config))
    rows = pack_documents(config, model.tokenizer, read_documents(source))
    check_rows(model.cfg, rows)
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
    model = load_model(folder, config.tokenizer, dtype=compute_dtype(config))
    _continue_prompt(config, run, model)
    return []


def _evaluate(config: "Config", cfg: LMConfig, trained: Any, rows: Rows, limit: int = 0) -> float:
    params, lora = split_trained(trained)
    return evaluate_loss(
        params,
        cfg,
        {name: array[: limit or None] for name, array in rows.items()},
        batch_size=config.batch_size,
        lora=lora,
        **loss_options(config),
    )


def _given_folder(config: "Config") -> str:
    if not config.model:
        raise ValueError(f"{config.experiment} needs a model: give --model=FOLDER")
    return config.model


def _continue_prompt(config: "Config", run: Run, model: Model, *, fit: bool = False):
    """Prints the prompt and its continuation as it comes; keeps both in artifacts/sample.txt.

    `fit` shortens both to the model's context, where a sample is not what was asked for.
    """
    tokenizer, text = model.tokenizer, config.prompt
    if config.chat:
        messages = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
    else:
        ids = encode_prompt(tokenizer, text)
    length, context = config.max_new_tokens, model.cfg.max_seq_len
    if fit:
        if len(ids) > context // 2:
            ids = ids[: context // 2]
            text = tokenizer.decode(ids, skip_special_tokens=True)
        length = min(length, context - len(ids))
    defaults = generation_defaults(model.folder) | {"max_new_tokens": length}
    given = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(SamplingConfig)
        if getattr(config, field.name) is not None
    }
    sampling = dataclasses.replace(defaults.pop("sampling", SamplingConfig()), **given)
    blocks = stream_generate(
        jax.random.key(config.seed),
        model.params,
        model.cfg,
        np.array([ids]),
        sampling=sampling,
        compute_dtype=compute_dtype(config),
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
    run.figure("training", figures.training(run.metrics(), floor, unigram))
    learns = Claim(
        "T1",
        "A model trained through the script predicts text that it has not seen",
        "",
        f"{loss:.3f}",
        holds(loss < unigram / 2),
        unit="nats per token",
        detail=f"{config.steps} steps of {config.batch_size} x {config.seq_len} tokens; "
        f"perplexity {math.exp(loss):.2f}. Criterion: < {unigram / 2:.2f}, half of what token "
        "frequencies give.",
    )
    statement = "Its loss comes down to the entropy of the text, which no model can beat"
    if floor is None:
        reason = "the entropy is known for generated stories alone, in rows that hold the longest"
        return [learns, not_run("T2", statement, reason)]
    settled = config.steps >= _SETTLED_STEPS
    return [
        learns,
        Claim(
            "T2",
            statement,
            "",
            f"{loss / floor:.3f} times the entropy",
            holds(loss < 1.05 * floor) if settled else "reported",
            detail=f"{floor:.3f} nats per token, known since the stories are generated. "
            f"Criterion from {_SETTLED_STEPS} steps on: < 1.05 times.",
        ),
    ]


def _speed_claim(config: "Config", run: Run, cfg: LMConfig, params: int) -> Claim:
    rates = [row["tokens_per_s"] for row in run.metrics() if "tokens_per_s" in row]
    rate = float(np.median(rates[1:] or rates))  # the first interval compiles
    dtype = compute_dtype(config)
    peak = float(run.once("peak_rate", lambda: {"flops": matmul_flops_per_second(dtype)})["flops"])
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
