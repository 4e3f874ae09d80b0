"""What a model is worth on a text."""

import functools
from typing import Any

import jax
import numpy as np

from jaxlab.lm.config import LMConfig
from jaxlab.lm.losses import next_token_loss


def evaluate_loss(
    params: Any,
    cfg: LMConfig,
    rows: dict[str, np.ndarray],
    *,
    batch_size: int,
    lora: Any = None,
    **loss_kw: Any,
) -> float:
    """Mean loss in nats per counted token over all rows; its exponential is the perplexity.

    Args:
      params: the model's parameters.
      cfg: the model's config.
      rows: a batch of `next_token_loss` with any number of rows, as NumPy arrays.
      batch_size: rows per call; one program is compiled.
      lora: adapters.
      **loss_kw: passed to `next_token_loss`; hashable.

    Raises:
      ValueError: no token counts.
    """
    count = len(rows["tokens"])
    rows = {"loss_mask": np.ones_like(rows["tokens"], bool)} | rows
    options = tuple(sorted(loss_kw.items()))
    total = weight = 0.0
    for start in range(0, count, batch_size):
        batch = {name: array[start : start + batch_size] for name, array in rows.items()}
        missing = batch_size - len(batch["tokens"])
        # Rows of zeros learn nothing: the last batch is as large as the others.
        batch = {k: np.pad(v, ((0, missing), (0, 0))) for k, v in batch.items()}
        part, part_weight = _loss(params, lora, batch, cfg=cfg, options=options)
        total, weight = total + float(part), weight + float(part_weight)
    if not weight:
        raise ValueError("no token of these rows counts towards the loss; check their loss_mask")
    return total / weight


def unigram_loss(rows: dict[str, np.ndarray]) -> float:
    """Entropy of the frequencies of all learned tokens, nats per token."""
    tokens = rows["tokens"][rows["loss_mask"]]
    frequencies = np.bincount(tokens) / tokens.size
    frequencies = frequencies[frequencies > 0]
    return float(-np.sum(frequencies * np.log(frequencies)))


@functools.partial(jax.jit, static_argnames=("cfg", "options"))
def _loss(params, lora, batch, *, cfg, options):
    return next_token_loss(params, cfg, batch, lora=lora, **dict(options))
