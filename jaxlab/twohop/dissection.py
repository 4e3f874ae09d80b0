"""Every observable and causal check of one trained model, in one compiled program."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.twohop.interventions import knockout_bias, patch_sweep
from jaxlab.twohop.model import Interventions, ModelConfig, Params, forward_with_cache, query_logits
from jaxlab.twohop.observables import (
    ATTENTION_ROLES,
    CHILD_ROLES,
    RoleAttention,
    RoleProbs,
    attention_by_role,
    logit_lens,
    ov_logit_lens,
    ov_role_logits,
    role_attention,
    role_probs,
)
from jaxlab.twohop.task import TwoHopBatch, counterfactual, role_positions

# The sequential query's own edges, three that it does not use, and one that depends on the seed.
CIRCUIT_EDGES = ((0, "child_to_parent"), (1, "query_to_brg1"), (2, "query_to_end"))
IDLE_EDGES = ((2, "child_to_parent"), (1, "query_to_end"), (0, "query_to_brg1"))
KNOCKED_EDGES = (*CIRCUIT_EDGES, *IDLE_EDGES, (1, "child_to_parent"))
PATCHED_HOPS = ("bridge", "end")


class Dissection(NamedTuple):
    """What a model does with a batch, and what it does when it is disturbed.

    Attributes:
      accuracy: `[]`.
      probs: prediction mass.
      attention: between roles, `[L]` each, a mean over heads.
      attention_map: `[L, 12, 12]` as `attention_by_role`, a mean over heads.
      child_attention: `[L]` the query's attention to all children.
      lens_bridge, lens_end: `[L+1]` probability of the target's bridge and end at the query, by
        the plain lens on the residual stream.
      ov: `[4, 3]` as `ov_role_logits`, of the last layer.
      knockouts: accuracy without each of `KNOCKED_EDGES`, `[7]`.
      clean: `[]` probability of the answer.
      corrupt: probability of the clean answer in the counterfactual runs, by hop.
      patches: `[L+1, 5]` as `patch_sweep`, by hop.
    """

    accuracy: jax.Array
    probs: RoleProbs
    attention: RoleAttention
    attention_map: jax.Array
    child_attention: jax.Array
    lens_bridge: jax.Array
    lens_end: jax.Array
    ov: jax.Array
    knockouts: jax.Array
    clean: jax.Array
    corrupt: dict[str, jax.Array]
    patches: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnames="config")
def dissect(params: Params, batch: TwoHopBatch, config: ModelConfig) -> Dissection:
    """Takes a model of three layers apart.

    Counterfactuals exchange a hop with the chain after the target.

    Raises:
      ValueError: a model with other than three layers, or a batch of fewer than two chains.
    """
    if config.n_layers != 3:
        raise ValueError(f"the edges are those of three layers, got n_layers {config.n_layers}")
    chains = batch.chains.shape[1]
    if chains < 2:
        raise ValueError(f"a counterfactual needs two chains, got {chains}")
    rows = jnp.arange(batch.tokens.shape[0])
    logits, cache = forward_with_cache(params, batch.tokens, config)
    lens = jax.nn.softmax(logit_lens(params, cache, config)[:, :, -1], axis=-1)
    table = attention_by_role(cache.attn_weights, batch).mean(1)
    children = jnp.array([ATTENTION_ROLES.index(role) for role in CHILD_ROLES])
    biases = jnp.stack([knockout_bias(batch, [edge], config) for edge in KNOCKED_EDGES])

    def without(bias):
        changes = Interventions(attn_bias=bias)
        changed, _ = forward_with_cache(params, batch.tokens, config, changes)
        return (changed[:, -1].argmax(-1) == batch.answer).mean()

    corrupt, patches = {}, {}
    for hop in PATCHED_HOPS:
        other = counterfactual(batch, hop, (batch.target + 1) % chains)
        corrupt[hop] = _probability(query_logits(params, other.tokens, config), batch.answer)
        patches[hop] = patch_sweep(
            params, batch.tokens, other.tokens, batch.answer, role_positions(batch), config
        )
    return Dissection(
        accuracy=(logits[:, -1].argmax(-1) == batch.answer).mean(),
        probs=role_probs(logits[:, -1], batch),
        attention=jax.tree.map(lambda x: x.mean(1), role_attention(cache.attn_weights, batch)),
        attention_map=table,
        child_attention=table[:, ATTENTION_ROLES.index("query"), children].sum(-1),
        lens_bridge=lens[:, rows, batch.chains[rows, batch.target, 1]].mean(1),
        lens_end=lens[:, rows, batch.answer].mean(1),
        ov=ov_role_logits(ov_logit_lens(params, cache, config, config.n_layers - 1), batch),
        knockouts=jax.lax.map(without, biases),
        clean=_probability(logits[:, -1], batch.answer),
        corrupt=corrupt,
        patches=patches,
    )


def _probability(logits: jax.Array, answer: jax.Array) -> jax.Array:
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.take_along_axis(probs, answer[:, None], axis=1).mean()
