"""The distribution of tasks: Gaussian regression weights with a mean, Gaussian inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


class TaskPrior(NamedTuple):
    """`w ~ N(mean, task_cov)`, `x ~ N(0, input_cov)`, `y = w.x + eps`, `eps ~ N(0, noise_var)`.

    Attributes:
      mean: `[d]` mean of the task weights, beta* in the paper.
      task_cov: `[d, d]` covariance of the task weights, Psi; positive semi-definite.
      input_cov: `[d, d]` covariance of the inputs, H; positive definite.
      noise_var: `[]` label noise, sigma^2.
    """

    mean: jax.Array
    task_cov: jax.Array
    input_cov: jax.Array
    noise_var: jax.Array


def make_prior(
    mean: ArrayLike,
    *,
    task_cov: ArrayLike | None = None,
    input_cov: ArrayLike | None = None,
    noise_var: ArrayLike = 0.0,
) -> TaskPrior:
    """Checks the parts of a prior on the host and gives them one dtype, that of `mean`.

    Args:
      mean: `[d]`; integers become floats.
      task_cov, input_cov: `[d, d]`, a scalar multiple of the identity, or None for the identity.
      noise_var: variance of the label noise, >= 0.

    Raises:
      ValueError: a part of the wrong shape, not symmetric, not definite enough, or not finite; the
        message names it with its shape or smallest eigenvalue.
    """
    mean = np.asarray(mean)
    if mean.ndim != 1 or mean.size == 0:
        raise ValueError(f"mean must be a vector [d], got shape {mean.shape}")
    floating = mean.dtype if np.issubdtype(mean.dtype, np.floating) else np.float64
    dtype = jax.dtypes.canonicalize_dtype(floating)
    noise_var = np.asarray(noise_var, np.float64)
    if noise_var.ndim or not 0 <= noise_var < np.inf:
        raise ValueError(f"noise_var must be a finite number >= 0, got {noise_var}")
    if not np.isfinite(mean).all():
        raise ValueError("mean holds NaN or infinity; pass finite numbers")
    task_cov = _covariance("task_cov", task_cov, mean.size, definite=False)
    input_cov = _covariance("input_cov", input_cov, mean.size, definite=True)
    return TaskPrior(*(jnp.asarray(part, dtype) for part in (mean, task_cov, input_cov, noise_var)))


@jax.custom_jvp
def symmetric_sqrt(covariance: jax.Array) -> jax.Array:
    """The positive semi-definite square root `[d, d]` of a covariance, singular ones included.

    The derivative solves `R dR + dR R = dA`; that of `eigh` would be NaN at equal eigenvalues,
    which isotropic covariances have.
    """
    return _sqrt_in_eigenbasis(covariance)[0]


@symmetric_sqrt.defjvp
def _symmetric_sqrt_jvp(primals, tangents):
    root, deviations, vectors = _sqrt_in_eigenbasis(*primals)
    (tangent,) = tangents
    sums = deviations[:, None] + deviations
    rotated = vectors.T @ ((tangent + tangent.T) / 2) @ vectors
    rotated = jnp.where(sums > 0, rotated / jnp.where(sums > 0, sums, 1), 0)
    return root, vectors @ rotated @ vectors.T


def _sqrt_in_eigenbasis(covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The root, its eigenvalues `[d]` and vectors `[d, d]`."""
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    deviations = jnp.sqrt(jnp.maximum(eigenvalues, 0))
    return (vectors * deviations) @ vectors.T, deviations, vectors


def _covariance(name: str, value: ArrayLike | None, dim: int, *, definite: bool) -> np.ndarray:
    value = np.asarray(1.0 if value is None else value, np.float64)
    if value.ndim == 0:
        value = value * np.eye(dim)
    if value.shape != (dim, dim):
        raise ValueError(f"{name} must be a scalar or [{dim}, {dim}], got shape {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinity; pass finite numbers")
    scale = np.abs(value).max()
    if np.abs(value - value.T).max() > 1e-6 * scale:
        raise ValueError(f"{name} of shape {value.shape} is not symmetric; pass (A + A.T) / 2")
    smallest = np.linalg.eigvalsh(value)[0]
    rounding = 1e-6 * scale
    if definite and smallest <= 0:
        raise ValueError(f"{name} must be positive definite, smallest eigenvalue {smallest:.3g}")
    if not definite and smallest < -rounding:
        raise ValueError(
            f"{name} must be positive semi-definite, smallest eigenvalue {smallest:.3g}"
        )
    return value
