"""Prompts: labelled examples and a query as the columns of one token matrix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.arrays import is_concrete
from jaxlab.checks import check_at_least
from jaxlab.icl.prior import TaskPrior, symmetric_sqrt


class Prompts(NamedTuple):
    """A batch of in-context regression problems.

    Attributes:
      tokens: `[B, d+1, M+1]`, columns `(x_i, y_i)`, the query `(x, 0)` last.
      target: `[B]` the query's label.
      weights: `[B, d]` each problem's regression weights.
    """

    tokens: jax.Array
    target: jax.Array
    weights: jax.Array


def sample_prompts(key: jax.Array, prior: TaskPrior, num_context: int, batch_size: int) -> Prompts:
    """Draws `batch_size` prompts with `num_context` labelled examples each.

    Raises:
      ValueError: `num_context` or `batch_size` below 1.
    """
    return sample_with_roots(key, prior, covariance_roots(prior), num_context, batch_size)


def covariance_roots(prior: TaskPrior) -> tuple[jax.Array, jax.Array]:
    """Square roots of `task_cov` and `input_cov`, to be computed once for many samples."""
    return symmetric_sqrt(prior.task_cov), symmetric_sqrt(prior.input_cov)


def sample_with_roots(
    key: jax.Array,
    prior: TaskPrior,
    roots: tuple[jax.Array, jax.Array],
    num_context: int,
    batch_size: int,
) -> Prompts:
    """`sample_prompts` with the covariances' square roots given, as a training loop wants it."""
    check_num_context(num_context)
    check_at_least("batch_size", batch_size, 1)
    dim, length = prior.mean.shape[0], num_context + 1
    task_root, input_root = roots
    # One draw for everything: many small ones cost more than the numbers themselves.
    normal = jax.random.normal(
        key, (batch_size, length * dim + dim + length), dtype=prior.mean.dtype
    )
    inputs, task, noise = jnp.split(normal, [length * dim, length * dim + dim], axis=1)
    weights = prior.mean + task @ task_root
    x = inputs.reshape(batch_size, length, dim) @ input_root
    y = jnp.einsum("bld,bd->bl", x, weights) + jnp.sqrt(prior.noise_var) * noise
    tokens = make_tokens(x[:, :-1], y[:, :-1], x[:, -1])
    return Prompts(tokens, y[:, -1], weights)


def make_tokens(X: jax.Array, y: jax.Array, x_query: jax.Array) -> jax.Array:
    """The token matrix `[[x_1 .. x_M x], [y_1 .. y_M 0]]`.

    Args:
      X: `[..., M, d]` inputs.
      y: `[..., M]` labels.
      x_query: `[..., d]`.

    Returns:
      `[..., d+1, M+1]`.

    Raises:
      ValueError: shapes that do not belong together, or no example.
    """
    X, y, x_query = map(jnp.asarray, (X, y, x_query))
    if X.ndim < 2 or y.shape != X.shape[:-1] or x_query.shape != (*X.shape[:-2], X.shape[-1]):
        raise ValueError(
            "wanted X [..., M, d], y [..., M] and x_query [..., d] with the same leading axes, got "
            f"{X.shape}, {y.shape} and {x_query.shape}"
        )
    check_num_context(X.shape[-2])
    inputs = jnp.concatenate([X, x_query[..., None, :]], axis=-2)
    labels = jnp.concatenate([y, jnp.zeros_like(y[..., :1])], axis=-1)
    return jnp.concatenate([inputs.swapaxes(-1, -2), labels[..., None, :]], axis=-2)


def split_tokens(tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Inverse of `make_tokens`: `X [..., M, d]`, `y [..., M]`, `x_query [..., d]`."""
    inputs, labels = tokens[..., :-1, :], tokens[..., -1, :]
    return inputs[..., :-1].swapaxes(-1, -2), labels[..., :-1], inputs[..., -1]


def interleave(tokens: jax.Array) -> jax.Array:
    """The prompt as the sequence `x_1, (y_1, 0 ..), x_2, ..., x_M, (y_M, 0 ..), x_query`.

    Args:
      tokens: `[..., d+1, M+1]`.

    Returns:
      `[..., 2M+1, d]`, the input of a sequence model (Garg et al., 2022).
    """
    inputs = tokens[..., :-1, :].swapaxes(-1, -2)
    labels = jnp.zeros_like(inputs).at[..., 0].set(tokens[..., -1, :])
    pairs = jnp.stack([inputs, labels], axis=-2)
    return pairs.reshape(*pairs.shape[:-3], -1, pairs.shape[-1])[..., :-1, :]


def check_num_context(num_context: int | jax.Array) -> None:
    """Raises ValueError unless there is at least one example; a traced number is not checked."""
    if is_concrete(num_context) and num_context < 1:
        raise ValueError(f"num_context must be >= 1, got {num_context}")
