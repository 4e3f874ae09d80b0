"""Margin losses and their inverses, evaluated through logarithms.

A margin loss `l` is positive, decreasing and continuously differentiable; it is applied to margins
`z_i = y_i x_i.w`. Everything here works on `ln l`, `ln(-l')` and on `log_v = ln v`, so a risk of
exp(-1e6) is an ordinary number, in float32 too. Logarithms are natural.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.arrays import as_float
from jaxlab.checks import check_choice

# Beyond this margin (below this log-value) a logistic loss is exp(-z) to the last bit but a few.
_LOGISTIC_TAIL = 30.0


class MarginLoss(NamedTuple):
    """A margin loss as four elementwise functions.

    Attributes:
      name: what messages call it.
      log_value: `z -> ln l(z)`.
      log_slope: `z -> ln(-l'(z))`.
      inverse: `ln v -> l^{-1}(v)`.
      log_inverse_slope: `ln v -> ln (-l^{-1})'(v)`, which is `-ln(-l'(l^{-1}(v)))`.
    """

    name: str
    log_value: Callable[[jax.Array], jax.Array]
    log_slope: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]
    log_inverse_slope: Callable[[jax.Array], jax.Array]


def _logistic() -> MarginLoss:
    """l(z) = ln(1 + e^{-z})."""

    # The argument of the branch that is not taken is clamped: its derivative would be 0/0.
    def log_value(z):
        tail = z > _LOGISTIC_TAIL
        body = jnp.log(jax.nn.softplus(-jnp.where(tail, _LOGISTIC_TAIL, z)))
        return jnp.where(tail, -z, body)

    def log_slope(z):
        return -jax.nn.softplus(z)

    def inverse(log_v):
        tail = log_v < -_LOGISTIC_TAIL
        v = jnp.exp(jnp.where(tail, -_LOGISTIC_TAIL, log_v))
        return jnp.where(tail, -log_v, -v - jnp.log(-jnp.expm1(-v)))

    def log_inverse_slope(log_v):
        tail = log_v < -_LOGISTIC_TAIL
        v = jnp.exp(jnp.where(tail, -_LOGISTIC_TAIL, log_v))
        return jnp.where(tail, -log_v, -jnp.log(-jnp.expm1(-v)))

    return MarginLoss("logistic", log_value, log_slope, inverse, log_inverse_slope)


def _exponential() -> MarginLoss:
    """l(z) = e^{-z}."""
    return MarginLoss("exponential", *(4 * (jnp.negative,)))


# The two losses below have a kink in their derivatives at z = 0, where every margin starts.
# `where(z >= 0, ...)` differentiates one side there; `maximum` would halve the gradient.


def _flat_exponential() -> MarginLoss:
    """l(z) = e^{-z} for z >= 0, 1 - z for z < 0."""

    def log_value(z):
        right = z >= 0
        return jnp.where(right, -z, jnp.log1p(-jnp.where(right, 0, z)))

    def log_slope(z):
        return jnp.where(z >= 0, -z, 0)

    def inverse(log_v):
        right = log_v <= 0
        return jnp.where(right, -log_v, -jnp.expm1(jnp.where(right, 0, log_v)))

    def log_inverse_slope(log_v):
        return jnp.where(log_v <= 0, -log_v, 0)

    return MarginLoss("flat_exponential", log_value, log_slope, inverse, log_inverse_slope)


@functools.cache  # one identity per degree, so that jit caches by it
def _polynomial(degree: float) -> MarginLoss:
    """l(z) = (1 + z)^{-k} for z >= 0, 1 - k z for z < 0, with k = `degree`."""
    log_degree = math.log(degree)

    def log_value(z):
        right = z >= 0
        tail = -degree * jnp.log1p(jnp.where(right, z, 0))
        return jnp.where(right, tail, jnp.log1p(-degree * jnp.where(right, 0, z)))

    def log_slope(z):
        return log_degree - (degree + 1) * jnp.log1p(jnp.where(z >= 0, z, 0))

    def inverse(log_v):
        right = log_v <= 0
        tail = jnp.expm1(-jnp.where(right, log_v, 0) / degree)
        return jnp.where(right, tail, -jnp.expm1(jnp.where(right, 0, log_v)) / degree)

    def log_inverse_slope(log_v):
        return -(1 + 1 / degree) * jnp.where(log_v <= 0, log_v, 0) - log_degree

    return MarginLoss("polynomial", log_value, log_slope, inverse, log_inverse_slope)


def _semicircle() -> MarginLoss:
    """l(z) = (-z + sqrt(z^2 + 4)) / 2, which is exp(-arcsinh(z / 2))."""

    def log_value(z):
        return -jnp.arcsinh(0.5 * z)

    def log_slope(z):
        return -jax.nn.softplus(2 * jnp.arcsinh(0.5 * z))

    def inverse(log_v):
        return -2 * jnp.sinh(log_v)

    def log_inverse_slope(log_v):
        return jax.nn.softplus(-2 * log_v)

    return MarginLoss("semicircle", log_value, log_slope, inverse, log_inverse_slope)


_WITHOUT_DEGREE = {
    loss.name: loss for loss in (_logistic(), _exponential(), _flat_exponential(), _semicircle())
}
LOSSES = ("logistic", "exponential", "flat_exponential", "polynomial", "semicircle")


def margin_loss(name: str, *, degree: float = 1.0) -> MarginLoss:
    """Returns the loss called `name`, one of `LOSSES`.

    Args:
      name: which loss.
      degree: k > 0 of the polynomial loss; the others ignore it.

    Raises:
      ValueError: the name is unknown, or the degree is not positive.
    """
    check_choice("loss", name, LOSSES)
    degree = float(degree)
    if not degree > 0:
        raise ValueError(f"degree must be positive, got {degree}")
    return _polynomial(degree) if name == "polynomial" else _WITHOUT_DEGREE[name]


def as_loss(loss: str | MarginLoss, degree: float = 1.0) -> MarginLoss:
    """Returns `loss` itself, or the loss of that name."""
    return loss if isinstance(loss, MarginLoss) else margin_loss(loss, degree=degree)


def normalized_weights(sample_weight, num_samples: int, dtype) -> jax.Array:
    """Sample weights that sum to 1: [n], or the scalar 1/n where none are given."""
    if sample_weight is None:
        return jnp.asarray(1 / num_samples, dtype)
    weight = jnp.asarray(sample_weight, dtype)
    if weight.shape != (num_samples,):
        raise ValueError(
            f"sample_weight must have one entry per sample, ({num_samples},), got {weight.shape}"
        )
    return weight / weight.sum()


def log_risk(
    margins: jax.Array,
    loss: str | MarginLoss = "logistic",
    sample_weight=None,
    *,
    degree: float = 1.0,
) -> jax.Array:
    """Computes `ln L`, `L = sum_i a_i l(z_i)`, with finite gradients at any scale of the margins.

    Args:
      margins: `z_i = y_i x_i.w`, [..., n].
      loss: a name of `LOSSES` or a `MarginLoss`.
      sample_weight: [n], not negative; divided by its sum (None: 1/n each).
      degree: of the polynomial loss.

    Returns:
      ln L in nats, [...].
    """
    margins = as_float(margins)
    weight = normalized_weights(sample_weight, margins.shape[-1], margins.dtype)
    log_losses = as_loss(loss, degree).log_value(margins)
    return jax.nn.logsumexp(jnp.log(weight) + log_losses, axis=-1)


def phi(
    margins: jax.Array,
    loss: str | MarginLoss = "logistic",
    sample_weight=None,
    *,
    degree: float = 1.0,
) -> jax.Array:
    """Computes the transformed objective `-l^{-1}(L)` of `margins` [..., n], a value per [...].

    Gradient descent on it with the constant stepsize eta is descent on L under the rule "risk".
    It is convex for the exponential loss, and not for the mean of logistic losses.
    """
    return -as_loss(loss, degree).inverse(log_risk(margins, loss, sample_weight, degree=degree))
