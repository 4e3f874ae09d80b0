"""Forget losses of one example, as functions of log-probabilities, and their closed-form weights.

A weight is the derivative of the loss by log pi(y | x): `grad loss = E[weight * grad log pi]`.
Everything is in nats and in log space, finite for log-probabilities of any size. Arrays have any
common shape. `pi` is the model, `ref` the frozen one that unlearning started from.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_equal_shapes
from jaxlab.unlearn.static_checks import require_not_negative, require_positive


def ga_loss(logp: jax.Array) -> jax.Array:
    """Gradient ascent on the negative log-likelihood: log pi itself, unbounded below."""
    return as_wide_float(logp)


def npo_loss(logp: jax.Array, ref_logp: jax.Array, *, beta: float) -> jax.Array:
    """(2 / beta) log(1 + (pi / ref)^beta), negative preference optimization.

    As beta goes to 0 it tends to gradient ascent, up to a constant.

    Args:
      logp, ref_logp: `[...]` log-probabilities of the answer, summed over its tokens.
      beta: inverse temperature, > 0.

    Raises:
      ValueError: beta <= 0, or unequal shapes.

    Source: Zhang, Lin, Bai and Mei, arXiv 2404.05868, Eq. 3.
    """
    return _softplus(beta * _log_ratio(logp, ref_logp, beta)) * (2 / beta)


def npo_weight(logp: ArrayLike, ref_logp: ArrayLike, *, beta: float) -> jax.Array:
    """2 pi^beta / (pi^beta + ref^beta), in (0, 2): how much of gradient ascent NPO keeps.

    It is 1 where the model is the reference. Arguments and errors as in `npo_loss`.
    """
    return 2 * jax.nn.sigmoid(beta * _log_ratio(logp, ref_logp, beta))


def simnpo_loss(
    logp: jax.Array, length: jax.Array, *, beta: float, gamma: float = 0.0
) -> jax.Array:
    """-(2 / beta) log sigmoid(-(beta / |y|) log pi - gamma), NPO with length for reference.

    Args:
      logp: `[...]` log-probabilities of the answer, summed over its tokens.
      length: `[...]` |y|, its scored tokens; at least 1 is taken.
      beta: inverse temperature, > 0.
      gamma: margin, >= 0. It stands outside the product with beta; code that has
        `beta * (nll / |y| - delta)` calls gamma / beta its delta.

    Raises:
      ValueError: beta <= 0, gamma < 0, or unequal shapes.

    Source: Fan et al., arXiv 2410.07163, Eq. 4.
    """
    return _softplus(_simnpo_margin(logp, length, beta, gamma)) * (2 / beta)


def simnpo_weight(
    logp: ArrayLike, length: ArrayLike, *, beta: float, gamma: float = 0.0
) -> jax.Array:
    """(2 / |y|) sigmoid((beta / |y|) log pi + gamma), below 2 / |y|; see `simnpo_loss`."""
    margin = _simnpo_margin(logp, length, beta, gamma)
    return 2 / _at_least_one(length) * jax.nn.sigmoid(margin)


def dpo_loss(
    win_logp: jax.Array,
    lose_logp: jax.Array,
    ref_win_logp: jax.Array,
    ref_lose_logp: jax.Array,
    *,
    beta: float,
) -> jax.Array:
    """-(2 / beta) log sigmoid(beta (log-ratio of the preferred answer - that of the other)).

    Unlearning prefers a refusal to the answer that is to be forgotten.

    Args:
      win_logp, lose_logp: `[...]` log pi of the preferred and of the other answer.
      ref_win_logp, ref_lose_logp: `[...]` the same under the reference.
      beta: inverse temperature, > 0.

    Raises:
      ValueError: beta <= 0, or unequal shapes.

    Source: Rafailov et al., arXiv 2305.18290, Eq. 7, times 2 / beta as the unlearning code has it.
    """
    win = _log_ratio(win_logp, ref_win_logp, beta)
    lose = _log_ratio(lose_logp, ref_lose_logp, beta)
    check_equal_shapes(win_logp=win, lose_logp=lose)
    return _softplus(-beta * (win - lose)) * (2 / beta)


def kto_reference(logp: jax.Array, ref_logp: jax.Array, *, beta: float) -> jax.Array:
    """beta times the mean log-ratio `[B] -> []`, the level that KTO measures from; no gradient.

    Args:
      logp, ref_logp: `[B]` log-probabilities of refusals to the questions of the batch.
      beta: inverse temperature, > 0.

    Raises:
      ValueError: beta <= 0, or unequal shapes.
    """
    return jax.lax.stop_gradient(beta * _log_ratio(logp, ref_logp, beta).mean())


def kto_loss(logp: jax.Array, ref_logp: jax.Array, z_ref: jax.Array, *, beta: float) -> jax.Array:
    """-(2 / beta) log sigmoid(z_ref - beta log(pi / ref)), Kahneman-Tversky optimization.

    Args:
      logp, ref_logp: `[...]` log-probabilities of the answer that is to be forgotten.
      z_ref: `[]` from `kto_reference`.
      beta: inverse temperature, > 0.

    Raises:
      ValueError: beta <= 0, or unequal shapes.

    Source: Ethayarajh et al., arXiv 2402.01306, undesirable part; arXiv 2404.05868, Appendix.
    """
    return _softplus(beta * _log_ratio(logp, ref_logp, beta) - z_ref) * (2 / beta)


def _log_ratio(logp: ArrayLike, ref_logp: ArrayLike, beta: float) -> jax.Array:
    require_positive("beta", beta)
    check_equal_shapes(logp=logp, ref_logp=ref_logp)
    return as_wide_float(logp) - as_wide_float(ref_logp)


def _simnpo_margin(logp: ArrayLike, length: ArrayLike, beta: float, gamma: float) -> jax.Array:
    require_positive("beta", beta)
    require_not_negative("gamma", gamma)
    check_equal_shapes(logp=logp, length=length)
    return beta * (as_wide_float(logp) / _at_least_one(length)) + gamma


def _at_least_one(length: ArrayLike) -> jax.Array:
    return jnp.maximum(jnp.asarray(length), 1)


def _softplus(x: jax.Array) -> jax.Array:
    return jnp.logaddexp(x, 0)
