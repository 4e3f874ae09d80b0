"""The Bayes-optimal estimator: ridge regression towards the prior mean."""

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least
from jaxlab.icl.prior import TaskPrior, symmetric_sqrt
from jaxlab.icl.prompts import check_num_context, split_tokens


def bayes_predict(prior: TaskPrior, tokens: jax.Array) -> jax.Array:
    """The posterior mean of the query's label, `[...]` for prompts `[..., d+1, M+1]`.

    `w = beta* + P (P X^T X P + sigma^2)^+ P X^T (y - X beta*)` with `P = Psi^{1/2}`, which allows a
    singular `Psi`, no noise, and fewer examples than dimensions.
    """
    X, y, x_query = split_tokens(tokens)
    root = symmetric_sqrt(prior.task_cov)
    eigenvalues, vectors = _posterior(root, X)
    correlation = jnp.einsum("...md,...m->...d", X, y - X @ prior.mean) @ root
    rotated = jnp.einsum("...dk,...d->...k", vectors, correlation)
    shift = jnp.einsum("...dk,...k->...d", vectors, _pseudo_inverse(prior, eigenvalues) * rotated)
    return jnp.einsum("...d,...d->...", prior.mean + shift @ root, x_query)


def bayes_risk(key: jax.Array, prior: TaskPrior, num_context: int, num_samples: int) -> jax.Array:
    """The Bayes risk `[]`, noise included, averaged over `num_samples` draws of the inputs.

    The average over weights and noise is taken in closed form, so only the inputs are sampled.

    Raises:
      ValueError: `num_context` or `num_samples` below 1.
    """
    check_num_context(num_context)
    check_at_least("num_samples", num_samples, 1)
    root, input_root = symmetric_sqrt(prior.task_cov), symmetric_sqrt(prior.input_cov)
    dim = prior.mean.shape[0]

    def conditional(key):
        X = jax.random.normal(key, (num_context, dim), prior.mean.dtype) @ input_root
        eigenvalues, vectors = _posterior(root, X)
        inverse = _pseudo_inverse(prior, eigenvalues)
        # Not 1 - eigenvalues * inverse, which cancels where the noise is small.
        remaining = jnp.where(inverse > 0, prior.noise_var * inverse, 1)
        shape = vectors.T @ root @ prior.input_cov @ root @ vectors
        return jnp.sum(remaining * jnp.diagonal(shape))

    keys = jax.random.split(key, num_samples)
    risks = jax.lax.map(conditional, keys, batch_size=min(num_samples, 1024))
    return prior.noise_var + risks.mean()


def _posterior(root: jax.Array, X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues `[..., d]` and vectors `[..., d, d]` of `P X^T X P`."""
    scaled = X @ root
    return jnp.linalg.eigh(jnp.einsum("...md,...me->...de", scaled, scaled))


def _pseudo_inverse(prior: TaskPrior, eigenvalues: jax.Array) -> jax.Array:
    """`1 / (lambda + sigma^2)`, and 0 in directions that the data say nothing about.

    To rounding, that is: `== 0` would never be true in floating point.
    """
    dim, eps = eigenvalues.shape[-1], jnp.finfo(eigenvalues.dtype).eps
    total = eigenvalues + prior.noise_var
    void = total <= 10 * dim * eps * eigenvalues[..., -1:]
    return jnp.where(void, 0, 1 / jnp.where(void, 1, total))
