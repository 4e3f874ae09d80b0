"""The stages of training: shared base, supervised fine-tuning, verifier, rounds of iteration."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.prm.packing import Judged, pack_judged, pack_whole
from jaxlab.prm.studies.config import MAX_ROW_STEPS, ROW_TOKENS
from jaxlab.prm.verifier import Verifier, init_verifier, verifier_loss
from jaxlab.runs import check_finite, progress

_LOSS_EVERY = 50  # steps between looks at the loss, each of which waits for the device

Pool = tuple[dict, float]  # packed rows, their share of a batch
Loss = Callable[..., tuple]  # (params, batch, key, *, cfg) to (sum, weight) or (sum, weight, aux)


def token_loss(params, batch, key, *, cfg: lm.LMConfig) -> tuple[jax.Array, jax.Array]:
    """Next-token loss of a solver."""
    del key
    return lm.next_token_loss(params, cfg, batch)


def fit(
    cfg: lm.LMConfig,
    params,
    pools: Sequence[Pool],
    *,
    rows: int,
    steps: int,
    lr: float,
    seed: int,
    loss: Loss = token_loss,
    weight_decay: float = 0.01,
):
    """Trains on batches that take a share of their rows from each pool.

    Args:
      params: of a solver, or a Verifier; not donated.
      pools: packed rows and shares, which add up to 1.
      rows, steps, lr: of a batch; optimizer steps; peak learning rate.
      seed: of the orders of rows.
      loss: `token_loss`, `verifier_loss` or another of this form.
      weight_decay: of the matrices.

    Raises:
      FloatingPointError: a loss that left the finite numbers.
    """
    tx, step = _stage(cfg, lr, steps, loss, weight_decay)
    sources = [
        lm.Batches(arrays, max(1, round(share * rows)), seed=seed + number)
        for number, (arrays, share) in enumerate(pools)
    ]
    state = lm.init_train_state(jax.tree.map(jnp.array, params), tx)
    key = jax.random.key(seed)
    for number in progress(range(steps), desc="training"):
        parts = [source(number) for source in sources]
        batch = {
            name: np.concatenate([part[name] for part in parts])
            for name in parts[0]
            if name != "row"
        }
        state, metrics = step(state, batch, key)
        if number % _LOSS_EVERY == _LOSS_EVERY - 1 or number + 1 == steps:
            check_finite(number + 1, {"loss": metrics["loss"]})
    return state.params


@functools.lru_cache(maxsize=16)
def _stage(cfg, lr, steps, loss, weight_decay):
    """Optimizer and compiled step: one for all stages of equal settings."""
    tx = lm.make_optimizer(
        lm.OptimizerConfig(
            peak_lr=lr,
            warmup_steps=max(1, steps // 10),
            total_steps=steps,
            weight_decay=weight_decay,
            b2=0.98,
        )
    )
    return tx, lm.make_train_step(functools.partial(loss, cfg=cfg), tx)


def pack(documents: Sequence[lm.Document]) -> dict:
    """Documents in rows of the room's length."""
    return pack_whole(documents, ROW_TOKENS)


def fit_verifier(
    cfg: lm.LMConfig,
    params,
    samples: Sequence[Judged],
    gold: Sequence[Judged],
    *,
    rows: int,
    steps: int,
    lr: float,
    seed: int,
) -> Verifier:
    """A verifier from a solver's parameters: 65% of a batch sampled steps, 35% gold ones.

    Those there are alone, where no sampled step was complete or no gold one is given.
    """
    sources = [(source, share) for source, share in ((samples, 0.65), (gold, 0.35)) if source]
    if not sources:
        raise ValueError("no valid step in batch: there are neither samples nor gold steps")
    pools = [
        (pack_judged(source, ROW_TOKENS, MAX_ROW_STEPS), share if len(sources) > 1 else 1.0)
        for source, share in sources
    ]
    start = init_verifier(params, cfg.vocab_size)
    return fit(cfg, start, pools, rows=rows, steps=steps, lr=lr, seed=seed, loss=verifier_loss)
