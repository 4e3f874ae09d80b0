"""Gradient descent for linear classifiers: one scan, its whole trajectory in log-space."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jax.typing import ArrayLike

from jaxlab.checks import check_at_least
from jaxlab.optim import linear_model
from jaxlab.optim.losses import MarginLoss, as_loss, normalized_weights
from jaxlab.optim.stepsize import (
    check_eta,
    check_rule,
    log_mean,
    smallest_margin,
    weigh_samples,
)


class GDResult(NamedTuple):
    """The trajectory w_0, ..., w_T; `wbar_t` is the mean of w_0, ..., w_{t-1} (without w_t).

    Attributes:
      w: w_T, [d].
      w_avg: wbar_T, [d].
      w_best: the iterate of lowest risk among w_0, ..., w_T, [d].
      log_risk: ln L(w_t) in nats, [T+1].
      log_risk_avg: ln L(wbar_t), [T+1]; entry 0 is that of w_0.
      min_margin: min_i z_i(w_t) / |w_t|, 0 where w_t = 0, [T+1].
      min_margin_avg: the same of wbar_t, [T+1].
      log_stepsize: ln eta_t, where w_{t+1} = w_t - eta_t grad L(w_t), [T].
      mass: sum_i p_i of the update weights, [T].
      first_separated: first t with min_margin > sep_tol, or -1; int32.
      first_separated_avg: the same for wbar_t.
    """

    w: jax.Array
    w_avg: jax.Array
    w_best: jax.Array
    log_risk: jax.Array
    log_risk_avg: jax.Array
    min_margin: jax.Array
    min_margin_avg: jax.Array
    log_stepsize: jax.Array
    mass: jax.Array
    first_separated: jax.Array
    first_separated_avg: jax.Array


def run_gd(
    X: ArrayLike | BCOO,
    y: ArrayLike,
    eta: ArrayLike,
    num_steps: int,
    *,
    loss: str | MarginLoss = "logistic",
    rule: str = "risk",
    degree: float = 1.0,
    w0: jax.Array | None = None,
    sample_weight: jax.Array | None = None,
    sep_tol: float = 1e-6,
) -> GDResult:
    """Runs gradient descent with the stepsize rule `rule`, scaled by `eta`.

    Works under jit and vmap (over eta, data, weights, w0); one compilation per shape, `num_steps`,
    `loss` and `rule`. Scale the rows of X to norm at most 1 (`prepare`), or read every 1/margin^2
    of the theory as R^2/margin^2.

    Args:
      X: samples, [n, d], float32 or float64 (kept), dense or BCOO.
      y: labels of +-1, [n].
      eta: base stepsize, positive and as large as you like.
      num_steps: T.
      loss: a name of `LOSSES` or a `MarginLoss`.
      rule: a name of `RULES` (see `jaxlab.optim.stepsize`).
      degree: of the polynomial loss.
      w0: where to start, [d]; zeros by default.
      sample_weight: [n], not negative; divided by its sum. A sample of weight 0 counts nowhere.
      sep_tol: the normalized margin above which all samples count as separated.

    Raises:
      ValueError: shapes that do not fit, an unknown loss or rule, eta or num_steps not positive.

    Reference: Zhang, Wu, Lin and Bartlett, arXiv 2504.04105.
    """
    check_rule(rule)
    check_eta(eta)
    num_steps = operator.index(num_steps)
    check_at_least("num_steps", num_steps, 1)
    X, y = linear_model.check_dataset(X, y)
    num_samples, dim = X.shape
    w0 = jnp.zeros(dim, X.dtype) if w0 is None else jnp.asarray(w0, X.dtype)
    if w0.shape != (dim,):
        raise ValueError(f"w0 must have shape ({dim},) to fit X {X.shape}, got {w0.shape}")
    # Told from the weights as given: a float64 weight of 1e-60 counts, though float32 has it at 0.
    counted = None if sample_weight is None else _as_array(sample_weight) > 0
    weight = normalized_weights(sample_weight, num_samples, X.dtype)
    eta = jnp.asarray(eta, X.dtype)
    sep_tol = jnp.asarray(sep_tol, X.dtype)
    return _run_gd(X, y, eta, w0, weight, counted, sep_tol, num_steps, as_loss(loss, degree), rule)


def _as_array(values) -> np.ndarray | jax.Array:
    return values if isinstance(values, jax.Array) else np.asarray(values)


class _Carry(NamedTuple):
    w: jax.Array
    margins: jax.Array
    sum_w: jax.Array
    sum_margins: jax.Array
    best_w: jax.Array
    best_log_risk: jax.Array


@functools.partial(jax.jit, static_argnames=("num_steps", "loss", "rule"))
def _run_gd(X, y, eta, w0, weight, counted, sep_tol, num_steps, loss, rule) -> GDResult:
    def log_risk(margins):
        return log_mean(loss.log_value, margins, weight, smallest_margin(margins, weight))

    def min_margin(margins, w):
        norm = jnp.linalg.norm(w)
        smallest = jnp.min(margins if counted is None else jnp.where(counted, margins, jnp.inf))
        return jnp.where(norm > 0, smallest / jnp.where(norm > 0, norm, 1), 0)

    def step(carry: _Carry, t):
        w, margins = carry.w, carry.margins
        update = weigh_samples(margins, weight, loss, rule)
        direction = linear_model.weighted_sum(X, y, update.weights)
        mass = update.weights.sum()
        log_stepsize = jnp.log(eta) + update.log_scale
        if rule == "l2":
            norm = jnp.linalg.norm(direction)
            norm = jnp.where(norm > 0, norm, 1)
            direction, mass = direction / norm, mass / norm
            log_stepsize = log_stepsize - jnp.log(norm)

        better = update.log_risk < carry.best_log_risk
        sum_w, sum_margins = carry.sum_w + w, carry.sum_margins + margins
        w_avg, margins_avg = sum_w / (t + 1), sum_margins / (t + 1)
        w_next = w + eta * direction
        new_carry = _Carry(
            w=w_next,
            margins=linear_model.margins(X, y, w_next),
            sum_w=sum_w,
            sum_margins=sum_margins,
            best_w=jnp.where(better, w, carry.best_w),
            best_log_risk=jnp.where(better, update.log_risk, carry.best_log_risk),
        )
        return new_carry, (
            (update.log_risk, min_margin(margins, w), log_stepsize, mass),  # at t
            (log_risk(margins_avg), min_margin(margins_avg, w_avg)),  # of wbar_{t+1}
        )

    margins0 = linear_model.margins(X, y, w0)
    zeros = jnp.zeros_like(w0), jnp.zeros_like(margins0)
    start = _Carry(w0, margins0, *zeros, w0, jnp.asarray(jnp.inf, w0.dtype))
    end, (now, average) = jax.lax.scan(step, start, jnp.arange(num_steps))

    last_log_risk = log_risk(end.margins)
    risks, min_margins, log_stepsizes, mass = now
    risks = jnp.append(risks, last_log_risk)
    min_margins = jnp.append(min_margins, min_margin(end.margins, end.w))
    risks_avg, min_margins_avg = (
        jnp.concatenate([at_zero[:1], tail])
        for at_zero, tail in zip((risks, min_margins), average, strict=True)
    )
    return GDResult(
        w=end.w,
        w_avg=end.sum_w / num_steps,
        w_best=jnp.where(last_log_risk < end.best_log_risk, end.w, end.best_w),
        log_risk=risks,
        log_risk_avg=risks_avg,
        min_margin=min_margins,
        min_margin_avg=min_margins_avg,
        log_stepsize=log_stepsizes,
        mass=mass,
        first_separated=first_above(min_margins, sep_tol),
        first_separated_avg=first_above(min_margins_avg, sep_tol),
    )


def first_above(trajectory: jax.Array, threshold: ArrayLike) -> jax.Array:
    """The first index of `trajectory` [T] with a value above `threshold`, or -1; int32."""
    above = trajectory > threshold
    return jnp.where(above.any(), jnp.argmax(above), -1).astype(jnp.int32)
