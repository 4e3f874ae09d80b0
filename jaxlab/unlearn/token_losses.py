"""Losses over tokens: divergence between two models, weighted ascent, logit distillation.

Axes: V vocabulary entries; `[...]` any common leading shape. Means are over marked positions, and
no mark at all gives 0.
"""

import jax
import jax.numpy as jnp

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.unlearn.static_checks import require_not_negative, require_positive

KL_DIRECTIONS = ("ref_to_model", "model_to_ref")


def kl_loss(
    logits: jax.Array,
    ref_logits: jax.Array,
    mask: jax.Array | None = None,
    *,
    direction: str = "ref_to_model",
) -> jax.Array:
    """Mean over marked positions of the divergence between two next-token distributions, nats.

    Args:
      logits, ref_logits: `[..., V]`; nothing is shifted here.
      mask: `[...]` positions that count; all by default.
      direction: `ref_to_model` is D(ref || pi), which the published code computes;
        `model_to_ref` is D(pi || ref), which the text of arXiv 2404.05868 writes.

    Raises:
      ValueError: unknown direction, or shapes that do not fit.
    """
    return masked_mean(*token_divergence(logits, ref_logits, mask, direction=direction))


def token_divergence(
    logits: jax.Array,
    ref_logits: jax.Array,
    mask: jax.Array | None = None,
    *,
    direction: str = "ref_to_model",
) -> tuple[jax.Array, jax.Array]:
    """The divergence at each position `[...]` and which of them count; see `kl_loss`."""
    check_choice("direction", direction, KL_DIRECTIONS)
    check_equal_shapes(logits=logits, ref_logits=ref_logits)
    log_pi, log_ref = _log_softmax(logits), _log_softmax(ref_logits)
    first, second = (log_ref, log_pi) if direction == "ref_to_model" else (log_pi, log_ref)
    possible = first > -jnp.inf  # 0 log 0 = 0, with a finite gradient
    difference = jnp.where(possible, first, 0) - jnp.where(possible, second, 0)
    divergence = jnp.sum(jnp.exp(first) * difference, axis=-1)
    if mask is None:
        mask = jnp.ones(divergence.shape, bool)
    check_equal_shapes(logits_without_vocabulary=divergence, mask=mask)
    return divergence, jnp.asarray(mask)


def wga_loss(token_logp: jax.Array, mask: jax.Array, *, beta: float = 1.0) -> jax.Array:
    """Weighted gradient ascent: mean over scored tokens of p^beta log p, the weight held fixed.

    Args:
      token_logp: `[B, T]` log-probabilities of tokens, nats.
      mask: `[B, T]` which are scored.
      beta: > 0; tokens that are already unlikely move less the larger it is.

    Raises:
      ValueError: beta <= 0, or unequal shapes.

    Source: Wang et al., arXiv 2502.19301.
    """
    return masked_mean(wga_terms(token_logp, beta=beta), mask)


def wga_terms(token_logp: jax.Array, *, beta: float = 1.0) -> jax.Array:
    """The summands of `wga_loss`, `[B, T]`."""
    require_positive("beta", beta)
    token_logp = as_wide_float(token_logp)
    return jax.lax.stop_gradient(jnp.exp(beta * token_logp)) * token_logp


def satimp_loss(
    token_logp: jax.Array, mask: jax.Array, *, beta1: float = 5.0, beta2: float = 1.0
) -> jax.Array:
    """Mean over scored tokens of p^beta1 (1 - p)^beta2 log p, the weight held fixed.

    Saturation (beta1) spares tokens that are forgotten, importance (beta2) those beyond doubt.

    Args:
      token_logp: `[B, T]` log-probabilities of tokens, nats.
      mask: `[B, T]` which are scored.
      beta1, beta2: exponents, >= 0.

    Raises:
      ValueError: a negative exponent, or unequal shapes.

    Source: Yang et al., arXiv 2505.11953.
    """
    require_not_negative("beta1", beta1)
    require_not_negative("beta2", beta2)
    token_logp = as_wide_float(token_logp)
    weight = jnp.exp(beta1 * token_logp) * jnp.maximum(-jnp.expm1(token_logp), 0) ** beta2
    return masked_mean(jax.lax.stop_gradient(weight) * token_logp, mask)


def undial_loss(
    logits: jax.Array,
    ref_logits: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    *,
    beta: float = 10.0,
) -> jax.Array:
    """Mean cross-entropy to the reference's distribution with the label's logit lowered by beta.

    Args:
      logits, ref_logits: `[..., V]`, where position t already predicts label t.
      labels: `[...]` token ids.
      mask: `[...]` which are scored.
      beta: by how much the label's logit is lowered, > 0.

    Raises:
      ValueError: beta <= 0, or shapes that do not fit.

    Source: Dong et al., arXiv 2402.10052.
    """
    require_positive("beta", beta)
    check_equal_shapes(logits=logits, ref_logits=ref_logits)
    lowered = jnp.asarray(ref_logits) - beta * _is_label(labels, ref_logits)
    return _soft_cross_entropy(logits, lowered, mask)


def ceu_loss(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean cross-entropy to the model's own distribution with the label taken out.

    Args:
      logits: `[..., V]`, where position t already predicts label t.
      labels: `[...]` token ids.
      mask: `[...]` which are scored.

    Raises:
      ValueError: shapes that do not fit.

    Source: Yang et al., "CE-U: Cross Entropy Unlearning", arXiv 2503.01224.
    """
    return _soft_cross_entropy(logits, jnp.where(_is_label(labels, logits), -jnp.inf, logits), mask)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean `[]` of `values` over `mask`, both `[...]`; 0 where nothing is marked."""
    check_equal_shapes(values=values, mask=mask)
    mask = jnp.asarray(mask)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)


def _soft_cross_entropy(logits: jax.Array, target_logits: jax.Array, mask: jax.Array) -> jax.Array:
    target = jax.lax.stop_gradient(jax.nn.softmax(target_logits, axis=-1))
    return masked_mean(-jnp.sum(target * _log_softmax(logits), axis=-1), mask)


def _is_label(labels: jax.Array, logits: jax.Array) -> jax.Array:
    check_equal_shapes(labels=labels, logits_without_vocabulary=jnp.asarray(logits)[..., 0])
    return jnp.arange(logits.shape[-1]) == jnp.asarray(labels)[..., None]


def _log_softmax(logits: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(as_wide_float(logits), axis=-1)
