"""The exact in-context risk `E (f(E) - y)^2` of any linear block, from Gaussian moments.

With `S = X^T X / M` and symmetric `K`: `E S = H` and
`E[S K S] = (1 + 1/M) H K H + tr(H K) H / M`.
"""

import jax
import jax.numpy as jnp

from jaxlab.icl.linear_block import Effective, LSAParams, LTBParams, effective
from jaxlab.icl.prior import TaskPrior
from jaxlab.icl.prompts import check_num_context


def icl_risk(params: LSAParams | LTBParams, prior: TaskPrior, num_context: int) -> jax.Array:
    """The exact risk `[]` of an LSA or LTB, noise included; differentiable in the weights.

    The error splits into a part odd in the residual `y - X beta*`, linear in `X^T r / M`, and an
    even part; the two are uncorrelated.

    Raises:
      ValueError: `num_context` below 1.
    """
    return effective_risk(effective(params), prior, num_context)


def effective_risk(function: Effective, prior: TaskPrior, num_context: int) -> jax.Array:
    """`icl_risk` of a function given by its effective parameters."""
    check_num_context(num_context)
    M, (mean, Psi, H, noise) = num_context, prior
    dim = mean.shape[0]
    skip, value, query = function
    v = value[dim]
    slope, energy = query[:dim].T, query[dim]  # A_1 and u: how X^T r and r^T r reach the output
    bias = value[:dim] + v * mean
    B = slope + jnp.outer(energy, mean)
    odd = v * slope + jnp.outer(energy, bias + v * mean)
    offset = skip - mean
    label_var = jnp.trace(H @ Psi) + noise

    HPsi = H @ Psi
    odd_risk = (
        jnp.trace(HPsi)
        - 2 * jnp.trace(H @ odd @ HPsi)
        + jnp.trace(H @ odd @ residual_moment(prior, Psi, M) @ odd.T)
    )
    Hu = H @ energy
    even_risk = (
        offset @ H @ offset
        + bias @ second_moment(H, B.T @ H @ B, M) @ bias
        + v**2 * (energy @ Hu) * (1 + 2 / M) * (label_var**2 + 2 * jnp.trace(HPsi @ HPsi))
        + 2 * offset @ H @ B @ H @ bias
        + 2 * v * label_var * (offset @ Hu)
        + 2 * v * Hu @ B @ (label_var * H @ bias + (2 / M) * HPsi @ H @ bias)
    )
    return noise + odd_risk + even_risk


def second_moment(H: jax.Array, K: jax.Array, num_context: int) -> jax.Array:
    """`E[S K S]` `[d, d]` for symmetric `K`."""
    return (1 + 1 / num_context) * H @ K @ H + jnp.trace(H @ K) * H / num_context


def residual_moment(prior: TaskPrior, spread: jax.Array, num_context: int) -> jax.Array:
    """`A(Psi_b) = E[X^T r r^T X] / M^2` `[d, d]` where the weights spread by `Psi_b`."""
    H = prior.input_cov
    return second_moment(H, spread, num_context) + prior.noise_var * H / num_context


def lsa_gap_lower_bound(prior: TaskPrior, num_context: int) -> jax.Array:
    """`|beta*|_H^2 / (M + 1)` `[]`: every LSA's risk exceeds the best LTB's by at least this.

    It does not vanish with training; only a zero mean or a longer context reduces it.

    Raises:
      ValueError: `num_context` below 1.
    """
    check_num_context(num_context)
    return prior.mean @ prior.input_cov @ prior.mean / (num_context + 1)
