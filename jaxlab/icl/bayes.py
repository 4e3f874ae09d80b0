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
    inverse, _ = _regularized_inverse(_information(root, X), prior.noise_var)
    correlation = jnp.einsum("...md,...m->...d", X, y - X @ prior.mean) @ root
    shift = jnp.einsum("...dk,...k->...d", inverse, correlation)
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
        inverse, void = _regularized_inverse(_information(root, X), prior.noise_var)
        # Not I - inverse @ information, which cancels where the noise is small.
        remaining = prior.noise_var * inverse + void
        return jnp.sum(remaining * (root @ prior.input_cov @ root))

    keys = jax.random.split(key, num_samples)
    risks = jax.lax.map(conditional, keys, batch_size=min(num_samples, 1024))
    return prior.noise_var + risks.mean()


def _information(root: jax.Array, X: jax.Array) -> jax.Array:
    """`P X^T X P`, `[..., d, d]`: what the examples say of the weights, in units of the prior."""
    scaled = X @ root
    return jnp.einsum("...md,...me->...de", scaled, scaled)


@jax.custom_jvp
def _regularized_inverse(
    information: jax.Array, noise_var: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`(S + sigma^2)^+` and the projector on its void, both `[..., d, d]`.

    The void are directions that neither data nor noise say anything about: to rounding, since
    `== 0` would never be true in floating point. The derivatives are written out, because that of
    `eigh` is NaN at equal eigenvalues, which fewer examples than dimensions have.
    """
    eigenvalues, vectors = jnp.linalg.eigh(information)
    dim, eps = eigenvalues.shape[-1], jnp.finfo(eigenvalues.dtype).eps
    total = eigenvalues + noise_var
    void = total <= 10 * dim * eps * eigenvalues[..., -1:]
    inverse = jnp.where(void, 0, 1 / jnp.where(void, 1, total))

    def assembled(spectrum):
        return (vectors * spectrum[..., None, :]) @ vectors.mT

    return assembled(inverse), assembled(void.astype(inverse.dtype))


@_regularized_inverse.defjvp
def _regularized_inverse_jvp(primals, tangents):
    inverse, void = _regularized_inverse(*primals)
    change = tangents[0] + tangents[1] * jnp.eye(inverse.shape[-1], dtype=inverse.dtype)
    change = (change + change.mT) / 2
    mixed = inverse @ inverse @ change @ void
    turned = inverse @ change @ void
    return (inverse, void), (
        mixed + mixed.mT - inverse @ change @ inverse,
        -turned - turned.mT,
    )
