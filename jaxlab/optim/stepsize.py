"""Stepsizes that grow as the risk falls, as sample weights and as an optax transformation.

A step of gradient descent on `L(w) = sum_i a_i l(z_i)` is `w + eta sum_i p_i y_i x_i`. The rules
differ in p (`l^{-1}` is the inverse of the loss):

  "risk"       p_i = a_i |l'(z_i)| (-l^{-1})'(L)      Zhang, Wu, Lin and Bartlett, arXiv 2504.04105
  "potential"  p_i = a_i |l'(z_i)| / sum_j a_j |l'(z_j)|
  "constant"   p_i = a_i |l'(z_i)|                     gradient descent as usual
  "l2"         p_i = a_i |l'(z_i)| / |grad L|_2        normalized gradient descent

"risk" and "potential" are one for the exponential loss. For the logistic loss, the mean risk makes
"risk" take up to n / margin^2 steps to separate; "potential" keeps to order 1 / margin^2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab.arrays import as_float, is_concrete
from jaxlab.checks import check_choice
from jaxlab.optim.losses import MarginLoss, as_loss, normalized_weights

RULES = ("risk", "potential", "constant", "l2")
_OBJECTIVES = ("risk", "log_risk")


def check_rule(rule: str) -> None:
    check_choice("rule", rule, RULES)


def check_eta(eta) -> None:
    """Refuses an eta that is known at trace time and is not positive."""
    if is_concrete(eta) and not np.all(np.asarray(eta) > 0):
        raise ValueError(f"eta must be positive, got {eta}")


def log_stepsize(
    log_risk: jax.Array, eta, loss: str | MarginLoss = "logistic", *, degree: float = 1.0
) -> jax.Array:
    """Computes ln eta_t of the rule "risk", `ln eta + ln (-l^{-1})'(L)`, from `log_risk` = ln L."""
    check_eta(eta)
    log_risk = as_float(log_risk)
    slope = as_loss(loss, degree).log_inverse_slope(log_risk)
    return jnp.log(jnp.asarray(eta, slope.dtype)) + slope


class Update(NamedTuple):
    """The sample weights of one step, with what was computed on the way.

    Attributes:
      weights: p, [..., n].
      log_risk: ln L, [...].
      log_scale: ln of what |l'| was multiplied with, ln(eta_t / eta), [...].
    """

    weights: jax.Array
    log_risk: jax.Array
    log_scale: jax.Array


def weigh_samples(margins: jax.Array, weight: jax.Array, loss: MarginLoss, rule: str) -> Update:
    """Computes the update weights of `rule` ("l2": those of "potential") in one pass.

    Args:
      margins: [..., n].
      weight: sample weights that sum to 1, [n], or the scalar 1/n.
      loss: the loss.
      rule: one of `RULES`.
    """
    smallest = smallest_margin(margins, weight)
    log_slopes = loss.log_slope(margins)
    log_risk = log_mean(loss.log_value, margins, weight, smallest)
    if rule == "risk":
        log_scale = loss.log_inverse_slope(log_risk)
    elif rule == "constant":
        log_scale = jnp.zeros_like(log_risk)
    else:
        log_scale = -log_mean(loss.log_slope, margins, weight, smallest)
    # Two huge exponents of opposite sign: add them before exponentiating. The sample weight stays
    # a factor outside, where its ratios are exact: the hard instances cancel to the last bit.
    exponents = log_slopes + log_scale[..., None]
    if jnp.ndim(weight):
        exponents = jnp.where(weight > 0, exponents, -jnp.inf)  # 0 * exp(large) would be nan
    # The barrier keeps XLA from computing p once for its sum and once more for its product with X.
    weights = jax.lax.optimization_barrier(weight * jnp.exp(exponents))
    return Update(weights, log_risk, log_scale)


def smallest_margin(margins: jax.Array, weight: jax.Array) -> jax.Array:
    """The least of `margins` [..., n] among the samples of positive weight, [...]."""
    if jnp.ndim(weight):
        margins = jnp.where(weight > 0, margins, jnp.inf)
    return margins.min(axis=-1)


def log_mean(
    log_function: Callable[[jax.Array], jax.Array],
    margins: jax.Array,
    weight: jax.Array,
    smallest: jax.Array,
) -> jax.Array:
    """Computes `ln sum_i weight_i f(z_i)` from ln f, for a decreasing f, [...].

    The largest term is then known before the logarithms are: one pass over the samples, where
    logsumexp would evaluate ln f once for the maximum and once for the sum.
    """
    shift = log_function(smallest)
    terms = jnp.exp(log_function(margins) - shift[..., None])
    if jnp.ndim(weight):
        terms = jnp.where(weight > 0, terms, 0)
    return shift + jnp.log((weight * terms).sum(axis=-1))


def update_weights(
    margins: jax.Array,
    loss: str | MarginLoss = "logistic",
    rule: str = "risk",
    sample_weight=None,
    *,
    degree: float = 1.0,
) -> jax.Array:
    """Computes p of the step `w + eta sum_i p_i y_i x_i` ("l2": the direction, unnormalized).

    Args:
      margins: `z_i = y_i x_i.w`, [..., n].
      loss: a name of `LOSSES` or a `MarginLoss`.
      rule: one of `RULES`; "l2" gives the weights of "potential", which are parallel to its own.
      sample_weight: [n], not negative; divided by its sum.
      degree: of the polynomial loss.

    Returns:
      p, [..., n].
    """
    check_rule(rule)
    margins = as_float(margins)
    weight = normalized_weights(sample_weight, margins.shape[-1], margins.dtype)
    return weigh_samples(margins, weight, as_loss(loss, degree), rule).weights


class AdaptiveGDState(NamedTuple):
    """State of `adaptive_gd`.

    Attributes:
      step: number of updates made, int32.
      log_stepsize: ln eta_t of the last update with respect to grad L; -inf before the first.
    """

    step: jax.Array
    log_stepsize: jax.Array


def adaptive_gd(
    eta: float | Callable[[jax.Array], jax.Array],
    loss: str | MarginLoss = "logistic",
    *,
    objective: str = "risk",
    degree: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with the stepsize `eta_t = eta (-l^{-1})'(L(w_t))`, rule "risk".

    `update` takes the objective's value by keyword:

      >>> tx = adaptive_gd(eta=100.0, objective="log_risk")
      >>> state = tx.init(w)
      >>> value, grads = jax.value_and_grad(lambda w: log_risk(y * (X @ w)))(w)
      >>> updates, state = tx.update(grads, state, w, value=value)
      >>> w = optax.apply_updates(w, updates)

    Args:
      eta: a positive number, or a schedule from step to number.
      loss: the loss whose mean the risk is.
      objective: "risk" (`value` = L, `grads` = grad L) or "log_risk" (ln L and its gradient),
        which goes on where L leaves float range.
      degree: of the polynomial loss.

    Returns:
      A transformation whose updates are `-eta_t grad L`, in the dtypes of `grads`.

    Reference: Zhang, Wu, Lin and Bartlett, arXiv 2504.04105.
    """
    check_choice("objective", objective, _OBJECTIVES)
    margin_loss = as_loss(loss, degree)
    if not callable(eta):
        check_eta(eta)

    def init(params):
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        return AdaptiveGDState(jnp.zeros((), jnp.int32), jnp.full((), -jnp.inf, dtype))

    def update(grads, state, params=None, *, value, **extra):
        del params, extra
        dtype = state.log_stepsize.dtype
        value = jnp.asarray(value, dtype)
        eta_now = jnp.asarray(eta(state.step) if callable(eta) else eta, dtype)
        if objective == "log_risk":
            log_v = value
            # eta_t grad L = eta [L (-l^{-1})'(L)] grad ln L, and the bracket is of order 1.
            scale = jnp.exp(margin_loss.log_inverse_slope(log_v) + log_v)
        else:
            # A risk that underflowed comes with zero gradients: keep 0 * stepsize at 0.
            log_v = jnp.log(jnp.maximum(value, jnp.finfo(dtype).tiny))
            scale = jnp.exp(margin_loss.log_inverse_slope(log_v))
        updates = jax.tree.map(lambda g: (-eta_now * (scale * g)).astype(g.dtype), grads)
        log_eta_t = jnp.log(eta_now) + margin_loss.log_inverse_slope(log_v)
        return updates, AdaptiveGDState(state.step + 1, log_eta_t)

    return optax.GradientTransformationExtraArgs(init, update)
