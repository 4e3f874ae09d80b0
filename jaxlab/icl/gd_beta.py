"""One step of gradient descent from a learned initialisation, the GD-beta estimator.

`f(E) = <beta - Gamma X^T (X beta - y) / M, x>`. Every GD-beta is a linear transformer block, and
every optimal block is effectively the optimal GD-beta (Zhang, Wu and Bartlett, 2024).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.icl.linear_block import LSAParams, LTBParams, effective, ltb_apply
from jaxlab.icl.prior import TaskPrior
from jaxlab.icl.prompts import check_num_context, split_tokens
from jaxlab.icl.risk import residual_moment


class GDBeta(NamedTuple):
    """Initialisation `beta` `[d]` and preconditioner `Gamma` `[d, d]`, not symmetric in general."""

    beta: jax.Array
    Gamma: jax.Array


class Projection(NamedTuple):
    """A block's nearest GD-beta and how far its function is from it.

    Attributes:
      gd_beta: the estimator.
      distance: `[]` root mean square of the difference of predictions, over that of the target.
    """

    gd_beta: GDBeta
    distance: jax.Array


def gd_beta_predict(beta: jax.Array, Gamma: jax.Array, tokens: jax.Array) -> jax.Array:
    """The GD-beta prediction `[...]` for prompts `[..., d+1, M+1]`."""
    X, y, x_query = split_tokens(tokens)
    gradient = jnp.einsum("...md,...m->...d", X, X @ beta - y) / X.shape[-2]
    return jnp.einsum("...d,...d->...", beta - gradient @ Gamma.T, x_query)


def optimal_gd_beta(prior: TaskPrior, num_context: int) -> GDBeta:
    """The unique minimiser: `beta = beta*`, `Gamma = Psi H A(Psi)^{-1}`.

    `A` is positive definite unless the task spread and the noise both vanish, and then every
    `Gamma` is optimal; `Psi` may be singular and is never inverted.

    Raises:
      ValueError: `num_context` below 1.
    """
    check_num_context(num_context)
    A = residual_moment(prior, prior.task_cov, num_context)
    # Without any spread or noise A and Psi vanish together: the zero matrix is an optimum.
    A = jnp.where(jnp.trace(A) > 0, A, jnp.eye(len(prior.mean), dtype=A.dtype))
    Gamma = jax.scipy.linalg.solve(A, prior.input_cov @ prior.task_cov, assume_a="pos").T
    return GDBeta(prior.mean, Gamma)


def gd_beta_risk(
    beta: jax.Array, Gamma: jax.Array, prior: TaskPrior, num_context: int
) -> jax.Array:
    """The exact in-context risk `[]`, noise included.

    A wrong `beta` acts exactly like additional task spread `b b^T`, `b = beta - beta*`.

    Raises:
      ValueError: `num_context` below 1.
    """
    check_num_context(num_context)
    H = prior.input_cov
    spread = initial_spread(beta, prior)
    HPsi = H @ spread
    A = residual_moment(prior, spread, num_context)
    return (
        prior.noise_var
        + jnp.trace(HPsi)
        - 2 * jnp.trace(H @ Gamma @ HPsi)
        + jnp.trace(H @ Gamma @ A @ Gamma.T)
    )


def initial_spread(beta: jax.Array, prior: TaskPrior) -> jax.Array:
    """`Psi_b = Psi + b b^T` `[d, d]`: second moment of the weights around `beta`."""
    error = beta - prior.mean
    return prior.task_cov + jnp.outer(error, error)


def min_gd_beta_risk(prior: TaskPrior, num_context: int) -> jax.Array:
    """The smallest risk `[]` of any GD-beta, which is the smallest of any LTB.

    `sigma^2 + sum_i phi_i (phi_i + c) / ((M+1) phi_i + c)` over the eigenvalues `phi` of
    `H Psi`, with `c = tr(H Psi) + sigma^2`: a sum of non-negative terms, exact near zero.

    Raises:
      ValueError: `num_context` below 1.
    """
    check_num_context(num_context)
    phi = signal_eigenvalues(prior)
    c = phi.sum() + prior.noise_var
    denominator = (num_context + 1) * phi + c
    terms = phi * (phi + c) / jnp.where(denominator > 0, denominator, 1)
    return prior.noise_var + terms.sum()


def signal_eigenvalues(prior: TaskPrior) -> jax.Array:
    """Eigenvalues `[d]` of `H Psi`, ascending and >= 0: the label variance that tasks explain."""
    factor = jnp.linalg.cholesky(prior.input_cov)
    return jnp.maximum(jnp.linalg.eigvalsh(factor.T @ prior.task_cov @ factor), 0)


def ltb_from_gd_beta(
    beta: jax.Array,
    Gamma: jax.Array,
    *,
    key_dim: int | None = None,
    value_dim: int | None = None,
    hidden_dim: int | None = None,
) -> LTBParams:
    """Weights of an LTB that computes exactly this GD-beta.

    Args:
      beta: `[d]`.
      Gamma: `[d, d]`.
      key_dim: at least `d`, which is the default.
      value_dim, hidden_dim: at least 1; `d + 1` by default. Surplus rows are zero.

    Raises:
      ValueError: `beta` or `Gamma` of the wrong shape, or a dimension that is too small.
    """
    beta, Gamma = jnp.asarray(beta), jnp.asarray(Gamma)
    _check_shapes(beta, Gamma)
    dim = beta.shape[0]
    last = jnp.eye(dim + 1, dtype=beta.dtype)[-1]
    identity = jnp.eye(dim, dim + 1, dtype=beta.dtype)
    residual = last.at[:dim].set(-beta)
    W_Q = jnp.pad(Gamma.T, ((0, 0), (0, 1)))
    return LTBParams(
        W_P=_rows(last[None], "value_dim", value_dim, dim + 1),
        W_V=_rows(residual[None], "value_dim", value_dim, dim + 1),
        W_K=_rows(identity, "key_dim", key_dim, dim),
        W_Q=_rows(W_Q, "key_dim", key_dim, dim),
        W_1=_rows(last.at[:dim].set(beta)[None], "hidden_dim", hidden_dim, dim + 1),
        W_2=_rows(last[None], "hidden_dim", hidden_dim, dim + 1),
    )


def lsa_from_effective(value: jax.Array, query: jax.Array) -> LSAParams:
    """An LSA of the default sizes with effective `value` `[d+1]` and `query` `[d+1, d]`."""
    dim = query.shape[1]
    last = jnp.eye(dim + 1, dtype=query.dtype)[-1]
    return LSAParams(
        W_P=_rows(last[None], "value_dim", None, dim + 1),
        W_V=_rows(value[None], "value_dim", None, dim + 1),
        W_K=query.T,
        W_Q=jnp.eye(dim, dim + 1, dtype=query.dtype),
    )


def project_to_gd_beta(params: LTBParams, tokens: jax.Array, target: jax.Array) -> Projection:
    """Reads the GD-beta that a block implements out of its weights, and measures the rest.

    `beta` is the block's fixed linear function, `Gamma` its response to the residual; what a block
    can do beside (labels without residuals, label energy) shows in the distance.

    Args:
      params: weights with `value[d] != 0`.
      tokens: `[B, d+1, M+1]` prompts to compare on.
      target: `[B]` their labels, which set the scale.
    """
    skip, value, query = effective(params)
    gd_beta = GDBeta(skip, value[-1] * query[:-1].T)
    difference = ltb_apply(params, tokens) - gd_beta_predict(*gd_beta, tokens)
    scale = jnp.sqrt(jnp.mean(jnp.square(target)))
    return Projection(gd_beta, jnp.sqrt(jnp.mean(jnp.square(difference))) / scale)


def _check_shapes(beta: jax.Array, Gamma: jax.Array) -> None:
    if beta.ndim != 1 or Gamma.shape != (beta.shape[0],) * 2:
        raise ValueError(f"wanted beta [d] and Gamma [d, d], got {beta.shape} and {Gamma.shape}")


def _rows(matrix: jax.Array, name: str, size: int | None, default: int) -> jax.Array:
    """Pads `matrix` with zero rows to `size`."""
    size = default if size is None else size
    needed = matrix.shape[0]
    if size < needed:
        raise ValueError(f"{name} must be >= {needed} for this construction, got {size}")
    return jnp.pad(matrix, ((0, size - needed), (0, 0)))
