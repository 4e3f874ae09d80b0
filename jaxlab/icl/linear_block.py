"""Linear self-attention (LSA) and the linear transformer block (LTB).

Both read the token matrix `E [d+1, M+1]` (`prompts.make_tokens`) and predict the query's label
from its last column. With the query masked as a key,

    T(E) = E + W_P^T W_V E Mask E^T W_K^T W_Q E / M,     Mask = diag(1, .., 1, 0),

LSA returns the label entry of the last column of `T(E)`; LTB applies the linear MLP `W_2^T W_1` to
it first. Zhang, Wu and Bartlett (2024), section 2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least


class LSAParams(NamedTuple):
    """Attention: `W_P`, `W_V` `[value_dim, d+1]`; `W_K`, `W_Q` `[key_dim, d+1]`."""

    W_P: jax.Array
    W_V: jax.Array
    W_K: jax.Array
    W_Q: jax.Array


class LTBParams(NamedTuple):
    """Attention as in `LSAParams`, and the linear MLP `W_1`, `W_2` `[hidden_dim, d+1]`."""

    W_P: jax.Array
    W_V: jax.Array
    W_K: jax.Array
    W_Q: jax.Array
    W_1: jax.Array
    W_2: jax.Array


class Effective(NamedTuple):
    """The function that a block computes: `f = skip.x + value^T G query x`, `G = E Mask E^T / M`.

    Determined by the weights; `(value, query)` and `(s value, query / s)` are the same function.

    Attributes:
      skip: `[d]`, zero for LSA: attention alone cannot output a fixed linear function.
      value: `[d+1]`.
      query: `[d+1, d]`.
    """

    skip: jax.Array
    value: jax.Array
    query: jax.Array


def init_lsa(
    key: jax.Array,
    dim: int,
    *,
    key_dim: int | None = None,
    value_dim: int | None = None,
    scale: float = 0.2,
) -> LSAParams:
    """Weights from `N(0, scale^2)`; `key_dim` is `dim` and `value_dim` `dim + 1` by default.

    `scale=0` is a saddle point of the risk: training never leaves it.

    Raises:
      ValueError: a dimension below 1.
    """
    heights = _attention_heights(dim, key_dim, value_dim)
    return LSAParams(*_normal(key, heights, dim, scale))


def init_ltb(
    key: jax.Array,
    dim: int,
    *,
    key_dim: int | None = None,
    value_dim: int | None = None,
    hidden_dim: int | None = None,
    scale: float = 0.2,
) -> LTBParams:
    """As `init_lsa`, and an MLP of `hidden_dim`, by default `dim + 1`."""
    heights = _attention_heights(dim, key_dim, value_dim)
    heights += (_height("hidden_dim", hidden_dim, dim + 1),) * 2
    return LTBParams(*_normal(key, heights, dim, scale))


def lsa_apply(params: LSAParams, tokens: jax.Array) -> jax.Array:
    """Predicts the query's label: `[..., d+1, M+1]` to `[...]`."""
    return _last_column(params, tokens)[..., -1]


def ltb_apply(params: LTBParams, tokens: jax.Array) -> jax.Array:
    """Predicts the query's label: `[..., d+1, M+1]` to `[...]`."""
    column = _last_column(params, tokens)
    return column @ (params.W_1.T @ params.W_2[:, -1])


def effective(params: LSAParams | LTBParams) -> Effective:
    """The effective parameters of a block."""
    dim = params.W_P.shape[1] - 1
    if isinstance(params, LTBParams):
        readout = params.W_1.T @ params.W_2[:, -1]
    else:
        readout = jnp.zeros(dim + 1, params.W_P.dtype).at[-1].set(1)
    value = params.W_V.T @ (params.W_P @ readout)
    return Effective(readout[:dim], value, params.W_K.T @ params.W_Q[:, :dim])


def _last_column(params: LSAParams | LTBParams, tokens: jax.Array) -> jax.Array:
    """Last column of `T(E)`, `[..., d+1]`; products run right to left, so `G` is never formed."""
    examples, query = tokens[..., :-1], tokens[..., -1]
    probe = query @ (params.W_Q.T @ params.W_K)
    scores = jnp.einsum("...im,...i->...m", examples, probe) / examples.shape[-1]
    read = jnp.einsum("...im,...m->...i", examples, scores)
    return query + read @ (params.W_V.T @ params.W_P)


def _attention_heights(dim: int, key_dim: int | None, value_dim: int | None) -> tuple[int, ...]:
    value_height = _height("value_dim", value_dim, dim + 1)
    return (value_height,) * 2 + (_height("key_dim", key_dim, dim),) * 2


def _height(name: str, size: int | None, default: int) -> int:
    size = default if size is None else size
    check_at_least(name, size, 1)
    return size


def _normal(key: jax.Array, heights: tuple[int, ...], dim: int, scale: float) -> list[jax.Array]:
    keys = jax.random.split(key, len(heights))
    return [
        scale * jax.random.normal(k, (height, dim + 1))
        for k, height in zip(keys, heights, strict=True)
    ]
