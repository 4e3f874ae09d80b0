"""Two-layer networks with leaky activations, trained in the hidden layer with large stepsizes."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.checks import check_at_least, check_choice
from jaxlab.optim import linear_model
from jaxlab.optim.gradient_descent import first_above
from jaxlab.optim.losses import MarginLoss, as_loss, log_risk, normalized_weights
from jaxlab.optim.stepsize import check_eta, check_rule, weigh_samples


class TwoLayerParams(NamedTuple):
    """Parameters of `f(x) = (1/m) sum_j outer_j sigma(hidden_j.x)`.

    Attributes:
      hidden: trained, [m, d].
      outer: fixed signs, half +1 and half -1, [m].
    """

    hidden: jax.Array
    outer: jax.Array


class TwoLayerResult(NamedTuple):
    """The trajectory theta_0, ..., theta_T.

    Attributes:
      params: theta_T.
      best: the parameters of lowest risk among theta_0, ..., theta_T.
      log_risk: ln L(theta_t), [T+1].
      min_margin: min_i y_i f(x_i), [T+1].
      first_separated: first t with min_margin > 0, or -1; int32.
    """

    params: TwoLayerParams
    best: TwoLayerParams
    log_risk: jax.Array
    min_margin: jax.Array
    first_separated: jax.Array


def _leaky_relu(v, slope):
    # `where` and not `maximum`: from zero weights every unit starts at the kink, with derivative 1.
    return jnp.where(v >= 0, v, slope * v)


def _leaky_relu_derivative(v, slope):
    return jnp.where(v >= 0, 1, slope).astype(v.dtype)


def _leaky_softplus(v, slope):
    return slope * v + (1 - slope) * jax.nn.softplus(v)


def _leaky_softplus_derivative(v, slope):
    return slope + (1 - slope) * jax.nn.sigmoid(v)


ACTIVATIONS = {
    "leaky_relu": (_leaky_relu, _leaky_relu_derivative),
    "leaky_softplus": (_leaky_softplus, _leaky_softplus_derivative),
}


def init_two_layer(key: jax.Array, width: int, dim: int, *, scale: float = 0.0) -> TwoLayerParams:
    """Draws hidden weights `scale * normal / sqrt(dim)` [width, dim]; outer signs half +1, half -1.

    Raises:
      ValueError: width odd or below 2.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width must be even and >= 2, got {width}")
    outer = jnp.repeat(jnp.array([1.0, -1.0]), width // 2)
    hidden = scale * jax.random.normal(key, (width, dim)) / jnp.sqrt(dim)
    return TwoLayerParams(hidden, outer)


def two_layer_apply(
    params: TwoLayerParams, X: jax.Array, *, activation: str = "leaky_relu", slope: float = 0.5
) -> jax.Array:
    """Computes f(x) for the rows of X [n, d], [n]. `slope` is the least derivative of sigma."""
    sigma, _ = _activation(activation)
    with jax.default_matmul_precision("highest"):
        return sigma(X @ params.hidden.T, slope) @ params.outer / params.outer.shape[0]


def run_two_layer_gd(
    params: TwoLayerParams,
    X: ArrayLike,
    y: ArrayLike,
    eta: ArrayLike,
    num_steps: int,
    *,
    loss: str | MarginLoss = "exponential",
    rule: str = "risk",
    activation: str = "leaky_relu",
    slope: float = 0.5,
    degree: float = 1.0,
) -> TwoLayerResult:
    """Trains the hidden layer with `theta + eta m sum_i p_i y_i grad f(x_i)`, p of the rule.

    The stepsize carries the width m, since `|grad f|^2 <= 1/m`. With the exponential loss and
    theta_0 = 0 the best iterate obeys `log_risk_bound(..., slope=slope, kappa=kappa)`, kappa being
    0 for leaky_relu and (1 - slope) ln 2 for leaky_softplus. Works under jit and vmap.

    Args:
      params: theta_0, cast to the dtype of X.
      X: samples, [n, d].
      y: labels of +-1, [n].
      eta: base stepsize.
      num_steps: T.
      loss, rule, degree: as in `run_gd`; "l2" divides by the norm of grad L over the hidden layer.
      activation: "leaky_relu" or "leaky_softplus".
      slope: least derivative of the activation.

    Raises:
      ValueError: shapes that do not fit, unknown names, eta or num_steps not positive.
    """
    check_rule(rule)
    check_eta(eta)
    _activation(activation)
    num_steps = operator.index(num_steps)
    check_at_least("num_steps", num_steps, 1)
    X, y = linear_model.check_dataset(X, y)
    params = TwoLayerParams(*(jnp.asarray(leaf, X.dtype) for leaf in params))
    width = params.outer.shape[0]
    if params.hidden.shape != (width, X.shape[1]):
        raise ValueError(
            f"hidden {params.hidden.shape} must be ({width}, {X.shape[1]}) "
            f"to fit outer {params.outer.shape} and X {X.shape}"
        )
    eta, slope = jnp.asarray(eta, X.dtype), jnp.asarray(slope, X.dtype)
    return _run(params, X, y, eta, slope, num_steps, as_loss(loss, degree), rule, activation)


@functools.partial(jax.jit, static_argnames=("num_steps", "loss", "rule", "activation"))
def _run(params, X, y, eta, slope, num_steps, loss, rule, activation) -> TwoLayerResult:
    sigma, derivative = ACTIVATIONS[activation]
    weight = normalized_weights(None, X.shape[0], X.dtype)
    outer, width = params.outer, params.outer.shape[0]

    def forward(hidden):
        preactivations = X @ hidden.T  # [n, m]
        return preactivations, y * (sigma(preactivations, slope) @ outer) / width

    def step(carry, _):
        hidden, best, best_log_risk = carry
        preactivations, margins = forward(hidden)
        update = weigh_samples(margins, weight, loss, rule)
        # m sum_i p_i y_i grad f(x_i): the factor m of the stepsize meets the 1/m of f.
        signal = (update.weights * y)[:, None] * derivative(preactivations, slope) * outer
        direction = signal.T @ X
        if rule == "l2":
            norm = jnp.linalg.norm(direction) / width
            direction = direction / jnp.where(norm > 0, norm, 1)
        better = update.log_risk < best_log_risk
        best = jnp.where(better, hidden, best)
        best_log_risk = jnp.where(better, update.log_risk, best_log_risk)
        carry = (hidden + eta * direction, best, best_log_risk)
        return carry, (update.log_risk, margins.min())

    with jax.default_matmul_precision("highest"):
        start = (params.hidden, params.hidden, jnp.asarray(jnp.inf, X.dtype))
        (hidden, best, best_log_risk), (risks, min_margins) = jax.lax.scan(
            step, start, length=num_steps
        )
        _, last_margins = forward(hidden)
    last_log_risk = log_risk(last_margins, loss)
    min_margins = jnp.append(min_margins, last_margins.min())
    return TwoLayerResult(
        params=TwoLayerParams(hidden, outer),
        best=TwoLayerParams(jnp.where(last_log_risk < best_log_risk, hidden, best), outer),
        log_risk=jnp.append(risks, last_log_risk),
        min_margin=min_margins,
        first_separated=first_above(min_margins, 0),
    )


def _activation(name: str):
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
