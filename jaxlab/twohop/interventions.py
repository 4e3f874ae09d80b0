"""Causal checks: knock edges of the attention out, patch the residual stream."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxlab.checks import check_choice, check_equal_shapes
from jaxlab.twohop.model import (
    Interventions,
    ModelConfig,
    Params,
    check_tokens,
    forward_with_cache,
)
from jaxlab.twohop.observables import check_layer
from jaxlab.twohop.task import ROLE_NAMES, TwoHopBatch, role_positions

EDGE_NAMES = (
    "child_to_parent",
    "query_to_src",
    "query_to_brg1",
    "query_to_brg2",
    "query_to_end",
)
_KNOCKED_OUT = -1e9


def knockout_bias(
    batch: TwoHopBatch, edges: Sequence[tuple[int, str]], config: ModelConfig
) -> jax.Array:
    """An `attn_bias` `[L, B, H, T, T]` that removes edges, in every head.

    Added before the softmax, so that the weight goes to the remaining keys.

    Args:
      batch: the problems; edges of the query are those to the target chain.
      edges: pairs `(layer, name)`, layers counted from 0, names of `EDGE_NAMES`.
      config: the model.

    Raises:
      ValueError: a layer out of range or an unknown name.
    """
    count, length = batch.tokens.shape
    rows, places = jnp.arange(count), role_positions(batch)
    children = jnp.arange(2, length - 1, 2)
    bias = jnp.zeros((config.n_layers, count, config.n_heads, length, length))
    for layer, name in edges:
        check_layer(layer, config)
        check_choice("edge", name, EDGE_NAMES)
        if name == "child_to_parent":
            bias = bias.at[layer, :, :, children, children - 1].set(_KNOCKED_OUT)
        else:
            key = places[:, ROLE_NAMES.index(name.removeprefix("query_to_"))]
            bias = bias.at[layer, rows, :, -1, key].set(_KNOCKED_OUT)
    return bias


def patch_sweep(
    params: Params,
    clean_tokens: jax.Array,
    corrupt_tokens: jax.Array,
    answer: jax.Array,
    positions: jax.Array,
    config: ModelConfig,
) -> jax.Array:
    """How much of the clean answer each activation carries into a corrupt run.

    Args:
      params: the model's.
      clean_tokens, corrupt_tokens: `[B, T]`.
      answer: `[B]` the clean answer.
      positions: `[B, R]` where to patch.
      config: the model's.

    Returns:
      `[L+1, R]`: mean probability of `answer` at the last position of the corrupt run when the
      residual stream entering layer l at `positions[:, r]` is the clean run's.

    Raises:
      ValueError: token arrays of different shapes, or tokens as in `forward`.
    """
    clean_tokens = check_tokens(clean_tokens, config)
    corrupt_tokens = check_tokens(corrupt_tokens, config)
    answer, positions = jnp.asarray(answer), jnp.asarray(positions)
    check_equal_shapes(clean_tokens=clean_tokens, corrupt_tokens=corrupt_tokens)
    _, clean = forward_with_cache(params, clean_tokens, config)
    rows, layers, roles = jnp.arange(clean_tokens.shape[0]), config.n_layers + 1, positions.shape[1]

    def patched(place):
        layer, role = place // roles, place % roles
        mask = jnp.zeros((layers, *clean_tokens.shape), bool)
        mask = mask.at[layer, rows, positions[:, role]].set(True)
        changes = Interventions(resid_value=clean.resid, resid_mask=mask)
        logits, _ = forward_with_cache(params, corrupt_tokens, config, changes)
        probs = jax.nn.softmax(logits[:, -1].astype(jnp.float32), axis=-1)
        return probs[rows, answer].mean()

    # One place after another: all at once would hold a cache for each.
    return jax.lax.map(patched, jnp.arange(layers * roles)).reshape(layers, roles)
