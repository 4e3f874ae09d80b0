"""Gradient flow of the GD-beta risk: non-convex, yet it reaches the optimum from any start."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least
from jaxlab.icl.gd_beta import (
    GDBeta,
    gd_beta_risk,
    initial_spread,
    optimal_gd_beta,
)
from jaxlab.icl.prior import TaskPrior
from jaxlab.icl.prompts import check_num_context
from jaxlab.icl.risk import residual_moment, second_moment


class FlowResult(NamedTuple):
    """A trajectory; entry 0 of each curve is the start.

    Attributes:
      beta, Gamma: the end point.
      time: `[T+1]` time of the flow.
      risk: `[T+1]` exact in-context risk.
      beta_error: `[T+1]` Euclidean distance of `beta` to the optimum.
      Gamma_error: `[T+1]` Frobenius distance of `Gamma` to the optimum.
    """

    beta: jax.Array
    Gamma: jax.Array
    time: jax.Array
    risk: jax.Array
    beta_error: jax.Array
    Gamma_error: jax.Array


def flow_field(state: GDBeta, prior: TaskPrior, num_context: int) -> GDBeta:
    """The negative gradient of the risk in `beta` and `Gamma`, in closed form."""
    H, (beta, Gamma) = prior.input_cov, state
    spread = initial_spread(beta, prior)
    HGH = H @ Gamma @ H
    curvature = H - HGH - HGH.T + second_moment(H, Gamma.T @ H @ Gamma, num_context)
    A = residual_moment(prior, spread, num_context)
    return GDBeta(-2 * curvature @ (beta - prior.mean), -2 * H @ (Gamma @ A - spread @ H))


@functools.partial(jax.jit, static_argnames=("num_context", "num_steps"))
def gradient_flow(
    beta0: jax.Array,
    Gamma0: jax.Array,
    prior: TaskPrior,
    num_context: int,
    *,
    num_steps: int,
    dt: jax.Array | float | None = None,
) -> FlowResult:
    """Integrates the flow by the classical Runge-Kutta method of order four.

    Args:
      beta0: `[d]`.
      Gamma0: `[d, d]`.
      prior: the task distribution.
      num_context: M.
      num_steps: number of steps.
      dt: step in time; None takes half of a stability bound, computed anew at every step. The flow
        is stiff where the start is far or the inputs are ill-conditioned: raise `num_steps` there.

    Raises:
      ValueError: `num_context` or `num_steps` below 1.
    """
    check_num_context(num_context)
    check_at_least("num_steps", num_steps, 1)
    field = functools.partial(flow_field, prior=prior, num_context=num_context)

    def move(state, slope, h):
        return jax.tree.map(lambda s, k: s + h * k, state, slope)

    def step(carry, _):
        time, state = carry
        h = jnp.asarray(_stable_step(state, prior, num_context) if dt is None else dt, time.dtype)
        k1 = field(state)
        k2 = field(move(state, k1, h / 2))
        k3 = field(move(state, k2, h / 2))
        k4 = field(move(state, k3, h))
        slope = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        carry = time + h, move(state, slope, h)
        return carry, carry

    dtype = prior.mean.dtype
    start = jnp.zeros((), dtype), GDBeta(jnp.asarray(beta0, dtype), jnp.asarray(Gamma0, dtype))
    (_, end), path = jax.lax.scan(step, start, length=num_steps)
    time, states = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), start, path)
    risk = jax.vmap(lambda s: gd_beta_risk(s.beta, s.Gamma, prior, num_context))(states)
    optimum = optimal_gd_beta(prior, num_context)
    return FlowResult(
        *end,
        time,
        risk,
        jnp.linalg.norm(states.beta - optimum.beta, axis=1),
        jnp.linalg.norm(states.Gamma - optimum.Gamma, axis=(1, 2)),
    )


def _stable_step(state: GDBeta, prior: TaskPrior, num_context: int) -> jax.Array:
    """Half the inverse of a bound on the flow's Lipschitz constant, in Frobenius norms."""
    H = prior.input_cov
    A = residual_moment(prior, initial_spread(state.beta, prior), num_context)
    K = state.Gamma.T @ H @ state.Gamma
    moment = second_moment(H, K, num_context)
    return 0.5 / (_norm(H) * _norm(A) + 2 * (_norm(moment) + _norm(H)))


def _norm(matrix: jax.Array) -> jax.Array:
    """Frobenius norm, with the gradient 0 at 0, where a flow may start."""
    square = jnp.sum(matrix**2)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
