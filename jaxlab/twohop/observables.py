"""What shows a mechanism: prediction mass, attention between roles, logit lenses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.twohop.model import Cache, ModelConfig, Params, final_norm, unembed
from jaxlab.twohop.task import TwoHopBatch, role_positions


class RoleProbs(NamedTuple):
    """Mean probability per token at the query, scalars.

    Attributes:
      target_end: of the right answer.
      other_end: of an end of another chain; NaN with one chain.
      src_brg: of a source or bridge of any chain.
      non_context: of a token that is not in the sequence, specials included.
    """

    target_end: jax.Array
    other_end: jax.Array
    src_brg: jax.Array
    non_context: jax.Array


class RoleAttention(NamedTuple):
    """Mean attention weights `[L, H]` between roles; sources and ends are those of the target."""

    child_to_parent: jax.Array
    query_to_src: jax.Array
    query_to_brg1: jax.Array
    query_to_brg2: jax.Array
    query_to_end: jax.Array
    query_to_other_brg1: jax.Array
    query_to_other_end: jax.Array


ATTENTION_ROLES = (
    "first",
    "src",
    "brg1",
    "brg2",
    "end",
    "other src",
    "other brg1",
    "other brg2",
    "other end",
    "filler parent",
    "filler child",
    "query",
)
CHILD_ROLES = ("brg1", "end", "other brg1", "other end", "filler child")


def role_probs(logits: jax.Array, batch: TwoHopBatch) -> RoleProbs:
    """Where the probability at the query goes, from its logits `[B, V]`."""
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    rows = jnp.arange(probs.shape[0])
    chains = batch.chains
    ends = probs[rows[:, None], chains[..., 2]]
    target = probs[rows, batch.answer]
    count = chains.shape[1]
    others = (ends.sum(1) - target) / (count - 1) if count > 1 else jnp.full_like(target, jnp.nan)
    inside = probs[rows[:, None, None], chains[..., :2]]
    fillers = probs[rows[:, None, None], batch.onehops].sum((1, 2))
    context = chains[0].size + batch.onehops[0].size
    outside = 1 - ends.sum(1) - inside.sum((1, 2)) - fillers
    return RoleProbs(
        target.mean(),
        others.mean(),
        inside.mean(),
        jnp.maximum(outside, 0).mean() / (probs.shape[1] - context),
    )


def role_attention(attn_weights: jax.Array, batch: TwoHopBatch) -> RoleAttention:
    """Mean attention between roles from weights `[L, B, H, T, T]`."""
    length, rows = attn_weights.shape[-1], jnp.arange(attn_weights.shape[1])
    children = jnp.arange(2, length - 1, 2)
    parents = attn_weights[..., children, children - 1].mean((1, 3))
    query = attn_weights[..., -1, :].swapaxes(1, 2)  # [L, H, B, T]
    mine = query[:, :, rows[:, None], role_positions(batch)[:, :4]].mean(2)
    count = batch.positions.shape[1]
    all_chains = query[:, :, rows[:, None, None], batch.positions].sum(3).mean(2)
    others = (all_chains - mine) / (count - 1) if count > 1 else jnp.full_like(mine, jnp.nan)
    src, brg1, brg2, end = jnp.moveaxis(mine, -1, 0)
    return RoleAttention(parents, src, brg1, brg2, end, others[..., 1], others[..., 3])


def attention_by_role(attn_weights: jax.Array, batch: TwoHopBatch) -> jax.Array:
    """Attention between all roles, `[L, H, 12, 12]`, from weights `[L, B, H, T, T]`.

    Entry (r, s) is the total weight that a position in role `ATTENTION_ROLES[r]` gives to the
    positions in role s, a mean over such positions; each row adds up to 1, and is NaN where no
    position has the role.
    """
    roles = jax.nn.one_hot(_roles(batch), len(ATTENTION_ROLES), dtype=attn_weights.dtype)
    received = jnp.einsum("lbhij,bjs->lbhis", attn_weights, roles)
    return jnp.einsum("lbhis,bir->lhrs", received, roles) / roles.sum((0, 1))[:, None]


def _roles(batch: TwoHopBatch) -> jax.Array:
    """`[B, T]` indices into `ATTENTION_ROLES`."""
    count, length = batch.tokens.shape
    places = jnp.arange(length)
    fillers = jnp.where(
        places % 2, ATTENTION_ROLES.index("filler parent"), ATTENTION_ROLES.index("filler child")
    )
    fillers = fillers.at[0].set(0).at[-1].set(ATTENTION_ROLES.index("query"))
    roles = jnp.broadcast_to(fillers, (count, length))
    rows = jnp.arange(count)
    others = ATTENTION_ROLES.index("other src") + jnp.arange(4)
    roles = roles.at[rows[:, None, None], batch.positions].set(others)
    mine = ATTENTION_ROLES.index("src") + jnp.arange(4)
    return roles.at[rows[:, None], role_positions(batch)[:, :4]].set(mine)


def logit_lens(params: Params, cache: Cache, config: ModelConfig) -> jax.Array:
    """The residual stream read as logits, `[L+1, B, T, V]`: the final norm, then the unembedding.

    The plain lens, without any tuned translation.
    """
    return unembed(params, cache.resid, config)


def ov_logit_lens(params: Params, cache: Cache, config: ModelConfig, layer: int) -> jax.Array:
    """What each position would write if a head attended to it alone, as logits `[B, T, V]`.

    The final norm is applied to the raw value-output vector, summed over heads, not to the
    residual stream.

    Raises:
      ValueError: `layer` outside [0, L).
    """
    check_layer(layer, config)
    values = cache.values[layer]
    joined = values.swapaxes(1, 2).reshape(values.shape[0], values.shape[2], config.dim)
    written = joined @ params["layers"][layer]["wo"]
    return final_norm(params, written, config) @ params["unembed"]


def ov_role_logits(lens: jax.Array, batch: TwoHopBatch) -> jax.Array:
    """Mean lens `[4, 3]`: rows positions src, brg1, brg2, end; columns tokens S, B, E of the chain.

    Args:
      lens: `[B, T, V]` from `ov_logit_lens`; its mean over the vocabulary is taken off.
      batch: the problems.
    """
    rows = jnp.arange(lens.shape[0])
    relative = lens - lens.mean(-1, keepdims=True)
    picked = relative[
        rows[:, None, None, None], batch.positions[..., None], batch.chains[:, :, None, :]
    ]
    return picked.mean((0, 1))


def check_layer(layer: int, config: ModelConfig) -> None:
    """Raises ValueError unless `layer` counts one of the model's, from 0."""
    if not 0 <= layer < config.n_layers:
        raise ValueError(f"layer must lie in [0, {config.n_layers}), got {layer}")
