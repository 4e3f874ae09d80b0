"""From a language model and a method to one differentiable objective of a batch.

Axes: B rows, T tokens, V vocabulary entries. Any causal model works: `apply_fn(params, tokens
[B, T]) -> logits [B, T, V]`, with padding on the right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab import parallel
from jaxlab.unlearn.log_probs import (
    IGNORE_INDEX,
    ChunkedHead,
    SeqLogProbs,
    TokenLogProbs,
    chunked_token_logprobs,
    summed,
    token_logprobs,
)
from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.preference_losses import (
    dpo_loss,
    ga_loss,
    kto_loss,
    npo_loss,
    simnpo_loss,
)
from jaxlab.unlearn.token_losses import token_divergence, wga_terms
from jaxlab.unlearn.types import LMBatch, UnlearnBatch

ApplyFn = Callable[[Any, Any], jax.Array]
Objective = Callable[[Any, Any, UnlearnBatch], tuple[jax.Array, dict[str, jax.Array]]]


def make_objective(
    apply_fn: ApplyFn,
    cfg: UnlearnConfig,
    *,
    axis_name: str | None = None,
    head: ChunkedHead | None = None,
) -> Objective:
    """Builds `objective(params, ref_params, batch) -> (loss, aux)`.

    The rows of a batch go through the model in one forward pass where their lengths agree, and
    through the reference in another, without gradient, unless the batch brings the reference's
    log-probabilities. `ref_params` may be None where nothing needs it.

    Args:
      apply_fn: the model.
      cfg: the method.
      axis_name: a mapped axis over which the batch is split. Every mean is then this device's
        share of the mean over the whole batch, so that shares add up to the undivided loss,
        however unevenly tokens are spread.
      head: where given, `apply_fn` returns hidden states `[B, T, D]`, and log-probabilities come
        from `chunked_token_logprobs`, for large vocabularies. retain="kl" compares whole laws
        and holds the logits of the retain rows all the same.

    Returns:
      The objective. `aux` holds `forget_loss` and `retain_loss`, unscaled, and `forget_logp`, the
      mean log-probability of the forget answers in nats.

    Raises:
      ValueError: by the objective, when refusals, retain rows or the reference that the method
        needs are missing.
    """

    def share(total: jax.Array, weight: jax.Array) -> jax.Array:
        if axis_name is not None:
            weight = jax.lax.psum(weight, axis_name)
        return total / jnp.maximum(weight, 1)

    def mean_rows(rows: jax.Array) -> jax.Array:
        return share(rows.sum(), jnp.asarray(rows.size, rows.dtype))

    def reduce(answers: SeqLogProbs) -> jax.Array:
        if cfg.reduction == "token":
            return share(answers.logp.sum(), answers.length.sum())
        if cfg.reduction == "length":
            return mean_rows(answers.logp / jnp.maximum(answers.length, 1))
        return mean_rows(answers.logp)

    def refusal_level(idk_logp: jax.Array, ref_idk_logp: jax.Array) -> jax.Array:
        """KTO's z_ref over the whole batch: it stands inside the softplus."""
        level = mean_rows(cfg.beta * (idk_logp - ref_idk_logp))
        if axis_name is not None:
            level = jax.lax.psum(level, axis_name)
        return jax.lax.stop_gradient(level)

    def forget_term(tokens: TokenLogProbs, answers: dict, ref: dict) -> jax.Array:
        forget = answers["forget"]
        match cfg.method:
            case "ga":
                return ga_loss(reduce(forget))
            case "npo":
                return mean_rows(npo_loss(forget.logp, ref["forget"], beta=cfg.beta))
            case "simnpo":
                return mean_rows(
                    simnpo_loss(forget.logp, forget.length, beta=cfg.beta, gamma=cfg.gamma)
                )
            case "idk":
                return -reduce(answers["idk"])
            case "dpo":
                return mean_rows(
                    dpo_loss(
                        answers["idk"].logp,
                        forget.logp,
                        ref["idk"],
                        ref["forget"],
                        beta=cfg.beta,
                    )
                )
            case "kto":
                level = refusal_level(answers["idk"].logp, ref["idk"])
                return mean_rows(kto_loss(forget.logp, ref["forget"], level, beta=cfg.beta))
            case "wga":
                return share(wga_terms(tokens.logp, beta=cfg.beta).sum(), tokens.mask.sum())
            case _:
                return jnp.zeros((), forget.logp.dtype)

    def retain_term(
        batch: UnlearnBatch, params: Any, outputs: dict, answers: dict, ref: dict
    ) -> jax.Array:
        if cfg.retain == "nll":
            return -reduce(answers["retain"])
        if cfg.retain == "kl":
            scored = batch.retain.labels[:, 1:] != IGNORE_INDEX
            logits = _logits(head, params, outputs["retain"])
            divergence, _ = token_divergence(logits[:, :-1], ref["retain"][:, :-1])
            return share(jnp.sum(jnp.where(scored, divergence, 0)), scored.sum())
        return jnp.zeros((), answers["forget"].logp.dtype)

    def objective(params: Any, ref_params: Any, batch: UnlearnBatch):
        rows = _needed_rows(cfg, batch)
        reference = _reference(apply_fn, cfg, ref_params, batch, head)
        outputs = _forward(apply_fn, params, rows)
        tokens = {
            name: output_logprobs(head, params, outputs[name], rows[name].labels) for name in rows
        }
        answers = {name: summed(part) for name, part in tokens.items()}
        forget_loss = forget_term(tokens["forget"], answers, reference)
        retain_loss = retain_term(batch, params, outputs, answers, reference)
        loss = cfg.forget_coeff * forget_loss + cfg.retain_coeff * retain_loss
        return loss, {
            "forget_loss": forget_loss,
            "retain_loss": retain_loss,
            "forget_logp": mean_rows(answers["forget"].logp),
        }

    return objective


def data_parallel_loss(
    apply_fn: ApplyFn,
    cfg: UnlearnConfig,
    ref_params: Any = None,
    *,
    mapped: bool,
    head: ChunkedHead | None = None,
) -> parallel.LossFn:
    """The objective as `jaxlab.parallel.make_train_step` takes it, exact over devices.

    Args:
      apply_fn, cfg, head: as in `make_objective`.
      ref_params: the reference model, where the method needs it and the batch does not bring its
        log-probabilities.
      mapped: whether the step splits rows over devices (`parallel="pmap"`), without micro-batches.

    Returns:
      `loss_fn(params, batch, key) -> (sum, weight, aux)` of an `UnlearnBatch` whose parts have
      one number of rows; the key is not used.
    """
    axis = parallel.AXIS if mapped else None
    objective = make_objective(apply_fn, cfg, axis_name=axis, head=head)

    def loss_fn(params: Any, batch: UnlearnBatch, key: jax.Array):
        loss, aux = objective(params, ref_params, batch)
        devices = jax.lax.psum(1, axis) if mapped else 1
        return loss, jnp.float32(1 / devices), aux  # shares: the weights of all add up to one

    return loss_fn


def output_logprobs(
    head: ChunkedHead | None, params: Any, outputs: jax.Array, labels: ArrayLike
) -> TokenLogProbs:
    """Log-probabilities from what `apply_fn` returns: logits, or with a head, hidden states."""
    if head is None:
        return token_logprobs(outputs, labels)
    return chunked_token_logprobs(head, params, outputs, labels)


def _logits(head: ChunkedHead | None, params: Any, outputs: jax.Array) -> jax.Array:
    return outputs if head is None else head.logits(head.weights(params), outputs)


def _needed_rows(cfg: UnlearnConfig, batch: UnlearnBatch) -> dict[str, LMBatch]:
    """The parts of a batch that go through the model."""
    rows = {"forget": batch.forget}
    if cfg.retain != "none":
        rows["retain"] = _require(batch.retain, "retain", f"retain={cfg.retain!r}")
    if cfg.needs_idk:
        rows["idk"] = _require(batch.idk, "idk", f"method={cfg.method!r}")
    return rows


def _require(part: LMBatch | None, name: str, why: str) -> LMBatch:
    if part is None:
        raise ValueError(f"{why} needs {name} rows, but the batch has none; give `{name}`")
    return part


def _reference(
    apply_fn: ApplyFn,
    cfg: UnlearnConfig,
    ref_params: Any,
    batch: UnlearnBatch,
    head: ChunkedHead | None,
) -> dict[str, jax.Array]:
    """Log-probabilities `[B]` of forget and idk rows and logits of retain rows, without gradient.

    Only what the method needs; what the batch brings is not computed again.
    """
    found, missing = {}, {}
    if cfg.needs_reference:
        cached = {"forget": batch.ref_forget_logp}
        if cfg.needs_idk:
            cached["idk"] = batch.ref_idk_logp
        found = {name: logp for name, logp in cached.items() if logp is not None}
        missing = {name: getattr(batch, name) for name in cached if name not in found}
    if cfg.retain == "kl":
        missing["retain"] = batch.retain
    if missing:
        if ref_params is None:
            raise ValueError(
                f"method={cfg.method!r} with retain={cfg.retain!r} needs the reference model on "
                f"{', '.join(missing)} rows; give ref_params"
                + ("" if "retain" in missing else " or cached log-probabilities")
            )
        for name, outputs in _forward(apply_fn, ref_params, missing).items():
            if name == "retain":
                found[name] = _logits(head, ref_params, outputs)
            else:
                tokens = output_logprobs(head, ref_params, outputs, missing[name].labels)
                found[name] = summed(tokens).logp
    return jax.lax.stop_gradient(found)


def _forward(apply_fn: ApplyFn, params: Any, parts: dict[str, LMBatch]) -> dict[str, jax.Array]:
    """The output of each part: in one pass where all rows have one length."""
    tokens = [part.tokens for part in parts.values()]
    if len({rows.shape[1] for rows in tokens}) > 1:
        return {name: apply_fn(params, part.tokens) for name, part in parts.items()}
    logits = apply_fn(params, jnp.concatenate(tokens))
    return dict(zip(parts, jnp.split(logits, _boundaries(tokens)), strict=True))


def _boundaries(tokens: Sequence[jax.Array | np.ndarray]) -> list[int]:
    ends, total = [], 0
    for rows in tokens[:-1]:
        total += rows.shape[0]
        ends.append(total)
    return ends
