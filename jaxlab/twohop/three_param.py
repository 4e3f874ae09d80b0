"""The learning dynamics in three numbers: a plateau, then an abrupt drop of the loss.

With `sigma_n(x) = e^x / (e^x + n)`:
`A = sigma_n(alpha)` is how much a child attends to its parent, `B = sigma_n(beta A)` how much the
query attends to the bridge, `z = gamma (B + 1/(1+n)) A` the answer's logit against `n_out` others.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.arrays import is_concrete
from jaxlab.checks import check_at_least


class ThreeParam(NamedTuple):
    """Strengths of the parent copy, of the bridge query and of the read-out."""

    alpha: jax.Array | float
    beta: jax.Array | float
    gamma: jax.Array | float


class ThreeParamTrajectory(NamedTuple):
    """Gradient flow; entry t of each `[S]` is before update t."""

    loss: jax.Array
    prob: jax.Array
    params: ThreeParam


def three_param_logit(p: ThreeParam, n: float = 10.0) -> jax.Array:
    """The answer's logit z, with n competitors in each attention."""
    parent = _share(p.alpha, n)
    bridge = _share(p.beta * parent, n)
    return p.gamma * (bridge + 1 / (1 + n)) * parent


def three_param_prob(p: ThreeParam, n: float = 10.0, n_out: float = 30.0) -> jax.Array:
    """The answer's probability against `n_out` competitors."""
    return _share(three_param_logit(p, n), n_out)


def three_param_loss(p: ThreeParam, n: float = 10.0, n_out: float = 30.0) -> jax.Array:
    """Its negative logarithm, in nats."""
    return jax.nn.softplus(jnp.log(n_out) - three_param_logit(p, n))


def three_param_flow(
    init: ThreeParam,
    lr: float = 0.1,
    n_steps: int = 2000,
    n: float = 10.0,
    n_out: float = 30.0,
) -> ThreeParamTrajectory:
    """Gradient descent on the loss; time is `lr` times the step.

    Args:
      init: start.
      lr: step in time.
      n_steps: S, static.
      n, n_out: competitors.

    Raises:
      ValueError: lr that is not positive, or `n_steps` below 1.
    """
    if is_concrete(lr) and not lr > 0:
        raise ValueError(f"lr must be positive, got {lr}")
    check_at_least("n_steps", n_steps, 1)

    def step(p, _):
        loss, slope = jax.value_and_grad(three_param_loss)(p, n, n_out)
        following = jax.tree.map(lambda x, g: x - lr * g, p, slope)
        return following, ThreeParamTrajectory(loss, three_param_prob(p, n, n_out), p)

    start = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), ThreeParam(*init))
    return jax.lax.scan(step, start, length=n_steps)[1]


def _share(x: jax.Array | float, n: jax.Array | float) -> jax.Array:
    """`e^x / (e^x + n)`, without overflow."""
    log_n = jnp.log(n) if isinstance(n, jax.Array) else math.log(n)
    return jax.nn.sigmoid(x - log_n)
