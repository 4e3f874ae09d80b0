"""The step verifier: a language model that says how likely a sub-solution is right.

The logit of a step is u . logits(end) + s + b: s is the verifier's own log-likelihood of the
step's tokens (a network of two layers cannot see its own computed number at the end of the step),
and u reads the residual stream through the output logits, a linear map of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab import lm
from jaxlab.prm.process_reward import prm_loss
from jaxlab.prm.steps import gather_steps

LM_WEIGHT = 0.5


class Verifier(NamedTuple):
    """lm: parameters of the language model; u: [V]; b: scalar."""

    lm: dict
    u: jax.Array
    b: jax.Array


def init_verifier(params: dict, vocab_size: int) -> Verifier:
    """A verifier that starts from a solver's parameters."""
    return Verifier(params, jnp.zeros(vocab_size), jnp.zeros(()))


def step_logit(verifier: Verifier, end_logits: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """Logits [...] that steps are right, from the logits [..., V] at their ends and log p [...]."""
    return end_logits @ verifier.u + log_likelihood + verifier.b


def score_steps(verifier: Verifier, cfg: lm.LMConfig, batch: dict) -> jax.Array:
    """Logits [B, M] of the steps of rows (`pack_judged`); meaningless where there is none."""
    logits = lm.forward(verifier.lm, cfg, batch["tokens"], segment_ids=batch["segment_ids"]).logits
    return _step_logits(verifier, logits, batch)


def verifier_loss(
    verifier: Verifier, batch: dict, key: jax.Array, *, cfg: lm.LMConfig
) -> tuple[jax.Array, jax.Array, dict]:
    """Binary cross-entropy of steps, and half the next-token loss of gold documents.

    (sum, weight, aux): the loss times the number of steps, that number, and the mean of the
    language-model term.
    """
    del key
    logits = lm.forward(verifier.lm, cfg, batch["tokens"], segment_ids=batch["segment_ids"]).logits
    valid = batch["step_ends"] >= 0
    count = jnp.sum(valid)
    judged = prm_loss(_step_logits(verifier, logits, batch), batch["step_labels"], valid)
    counted = batch["loss_mask"][:, 1:]
    log_probs = lm.token_log_probs(logits, batch["tokens"])
    language = -jnp.sum(jnp.where(counted, log_probs, 0)) / jnp.maximum(jnp.sum(counted), 1)
    return (judged + LM_WEIGHT * language) * count, count.astype(jnp.float32), {}


def _step_logits(verifier, logits, batch):
    log_probs = jnp.pad(lm.token_log_probs(logits, batch["tokens"]), ((0, 0), (1, 0)))
    num_steps = batch["step_ends"].shape[1]
    owner = batch["step_ids"][..., None] == jnp.arange(num_steps)
    likelihood = jnp.einsum("bt,btm->bm", log_probs, owner.astype(log_probs.dtype))
    ends = gather_steps(logits @ verifier.u, batch["step_ends"])
    return ends + likelihood + verifier.b
