"""S4: what a reference model costs in a step."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from jaxlab import lm
from jaxlab.runs import Claim, Run, holds, study_key
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.objective import make_objective
from jaxlab.unlearn.training import init_state, make_step, reference_logprobs
from jaxlab.unlearn.types import LMBatch, UnlearnBatch

_ROWS, _LENGTH, _VOCAB = 8, 64, 2048


def measure(config, run: Run) -> list[Claim]:
    """Times a step of SimNPO, and of NPO with and without stored reference values, in turn."""
    found = run.once("step_seconds", lambda: _times(config))
    seconds = {name: np.median(found[name]) for name in ("SimNPO", "NPO stored", "NPO")}
    ratios = {name: np.median(found[name] / found["NPO"]) for name in ("SimNPO", "NPO stored")}
    return [
        Claim(
            "S4",
            "SimNPO is simple: it needs no reference model",
            "",
            f"a step takes {ratios['SimNPO']:.2f} (SimNPO) and {ratios['NPO stored']:.2f} (NPO, "
            "reference computed once) of NPO's with a second model",
            holds(ratios["SimNPO"] <= 0.9),
            detail=f"{_ROWS} forget rows and as many to keep of {_LENGTH} tokens, "
            f"{int(found['parameters']) / 1e6:.1f}M parameters, without which a step makes do "
            f"that has no second model; median of {len(found['NPO'])} rounds in turn: "
            + ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items())
            + ". The objective runs without reference parameters. Criterion: <= 0.9.",
        )
    ]


def _times(config) -> dict:
    cfg = lm.LMConfig(
        vocab_size=_VOCAB,
        d_model=128,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        head_dim=32,
        d_ff=344,
        max_seq_len=_LENGTH,
    )
    params = lm.init_params(study_key(config, "reference cost: weights"), cfg)
    apply_fn, optimizer = lm.make_apply_fn(cfg), optax.adamw(1e-5)
    token_key = study_key(config, "reference cost: tokens")
    tokens = jax.random.randint(token_key, (2, _ROWS, _LENGTH), 0, _VOCAB)
    forget, retain = (LMBatch(rows, rows) for rows in tokens)
    plain = UnlearnBatch(forget, retain)
    stored = plain._replace(ref_forget_logp=reference_logprobs(apply_fn, params, forget))

    def stepper(name: str, batch: UnlearnBatch, ref_params: Any) -> Callable[[], Any]:
        objective = make_objective(apply_fn, method_config(name))
        step = jax.jit(make_step(objective, optimizer))
        state = init_state(params, optimizer)
        return lambda: step(state, ref_params, batch)

    steps = {
        "SimNPO": stepper("simnpo+rt", plain, None),
        "NPO stored": stepper("npo+rt", stored, None),
        "NPO": stepper("npo+rt", plain, params),
    }
    for step in steps.values():
        jax.block_until_ready(step())
    seconds = {name: [] for name in steps}
    for _ in range(config.step_rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(step())
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()} | {
        "parameters": lm.count_params(params)
    }
