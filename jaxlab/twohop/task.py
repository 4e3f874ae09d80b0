"""The two-hop task: A to B, B to C, query A, answer C, among distracting chains."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least, check_choice

BOS = 0
ROLE_NAMES = ("src", "brg1", "brg2", "end", "query")
COUNTERFACTUALS = ("query", "bridge", "end")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Sizes of the task.

    Attributes:
      n_chains: K two-hop chains, one of which is asked for.
      n_onehop: M one-hop premises that belong to no chain.
      vocab_size: entities to draw from.
      n_special: special tokens before them; 0 is the beginning of the sequence.

    Raises:
      ValueError: a number out of range, or too few entities for all chains.
    """

    n_chains: int = 5
    n_onehop: int = 0
    vocab_size: int = 30
    n_special: int = 4

    def __post_init__(self):
        for name, least in (("n_chains", 1), ("n_onehop", 0), ("n_special", 1)):
            check_at_least(name, getattr(self, name), least)
        if self.vocab_size < self.n_entities:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small: {self.n_chains} chains and "
                f"{self.n_onehop} one-hops use {self.n_entities} different entities"
            )

    @property
    def n_entities(self) -> int:
        """Entities in one sequence, 3K + 2M."""
        return 3 * self.n_chains + 2 * self.n_onehop

    @property
    def n_tokens(self) -> int:
        """Size V of the vocabulary."""
        return self.n_special + self.vocab_size

    @property
    def n_premises(self) -> int:
        """2K + M."""
        return 2 * self.n_chains + self.n_onehop

    @property
    def seq_len(self) -> int:
        """T: the first token, two a premise, and the query."""
        return 2 + 2 * self.n_premises


class TwoHopBatch(NamedTuple):
    """A batch of problems.

    Attributes:
      tokens: `[B, T]`; premise p stands at positions 2p + 1 (parent) and 2p + 2 (child), the query
        at T - 1.
      answer: `[B]` the end of the target chain.
      chains: `[B, K, 3]` token ids (source, bridge, end).
      target: `[B]` the chain that is asked for.
      positions: `[B, K, 4]` positions of (src, brg1, brg2, end): the bridge is the child of the
        first premise and the parent of the second.
      onehops: `[B, M, 2]` token ids (parent, child).
    """

    tokens: jax.Array
    answer: jax.Array
    chains: jax.Array
    target: jax.Array
    positions: jax.Array
    onehops: jax.Array


def sample_batch(key: jax.Array, config: TaskConfig, batch_size: int) -> TwoHopBatch:
    """Draws problems whose premises are in uniformly random order, first hops before second.

    Emitting the next premise of a chain with probability proportional to how many it has left is
    the same as shuffling all premises and sorting the two places of each chain.

    Raises:
      ValueError: `batch_size` below 1.
    """
    check_at_least("batch_size", batch_size, 1)
    K, M = config.n_chains, config.n_onehop
    entity_key, order_key, target_key = jax.random.split(key, 3)
    entities = _permutations(entity_key, batch_size, config.vocab_size)[:, : config.n_entities]
    entities = entities + config.n_special
    chains = entities[:, : 3 * K].reshape(batch_size, K, 3)
    onehops = entities[:, 3 * K :].reshape(batch_size, M, 2)

    places = _permutations(order_key, batch_size, config.n_premises)
    hops = jnp.sort(places[:, : 2 * K].reshape(batch_size, K, 2), axis=-1)
    first, second = 2 * hops[..., 0] + 1, 2 * hops[..., 1] + 1  # positions of the parents
    positions = jnp.stack([first, first + 1, second, second + 1], axis=-1)
    filler = 2 * places[:, 2 * K :, None] + jnp.array([1, 2])

    target = jax.random.randint(target_key, (batch_size,), 0, K)
    rows = jnp.arange(batch_size)
    tokens = jnp.full((batch_size, config.seq_len), BOS, jnp.int32)
    tokens = _write(tokens, positions, chains[..., jnp.array([0, 1, 1, 2])])
    tokens = _write(tokens, filler, onehops)
    tokens = tokens.at[:, -1].set(chains[rows, target, 0])
    return TwoHopBatch(tokens, chains[rows, target, 2], chains, target, positions, onehops)


def counterfactual(batch: TwoHopBatch, kind: str, other: jax.Array) -> TwoHopBatch:
    """The same problems with exactly one hop changed, every field updated.

    `"query"` asks for chain `other`; `"bridge"` lets the two sources lead to each other's bridge;
    `"end"` lets the two bridges lead to each other's end.

    Args:
      batch: problems.
      kind: one of `"query"`, `"bridge"`, `"end"`.
      other: `[B]` a chain other than the target.

    Raises:
      ValueError: an unknown kind.
    """
    check_choice("kind", kind, COUNTERFACTUALS)
    batch, other = jax.tree.map(jnp.asarray, (batch, other))
    rows = jnp.arange(batch.tokens.shape[0])
    pair = jnp.stack([batch.target, other], axis=1)
    tokens, chains, positions, target = batch.tokens, batch.chains, batch.positions, batch.target
    if kind == "query":
        tokens = tokens.at[:, -1].set(chains[rows, other, 0])
        target = other.astype(target.dtype)
    elif kind == "bridge":
        # The bridges stand for their second premises, which go along with them.
        tokens = _swap_tokens(tokens, positions[rows[:, None], pair, 1])
        chains = _swap_entries(chains, rows, pair, (1, 2))
        positions = _swap_entries(positions, rows, pair, (2, 3))
    else:
        tokens = _swap_tokens(tokens, positions[rows[:, None], pair, 3])
        chains = _swap_entries(chains, rows, pair, (2,))
    return TwoHopBatch(tokens, chains[rows, target, 2], chains, target, positions, batch.onehops)


def role_positions(batch: TwoHopBatch) -> jax.Array:
    """Positions `[B, 5]` of the target chain's `ROLE_NAMES`."""
    rows = jnp.arange(batch.tokens.shape[0])
    query = jnp.full_like(rows, batch.tokens.shape[1] - 1)
    return jnp.concatenate([batch.positions[rows, batch.target], query[:, None]], axis=1)


def _permutations(key: jax.Array, count: int, size: int) -> jax.Array:
    """`[count, size]`, a uniformly random permutation a row."""
    return jnp.argsort(jax.random.uniform(key, (count, size)), axis=1).astype(jnp.int32)


def _write(tokens: jax.Array, positions: jax.Array, values: jax.Array) -> jax.Array:
    rows = jnp.arange(tokens.shape[0])[:, None]
    flat = (tokens.shape[0], -1)
    return tokens.at[rows, positions.reshape(flat)].set(values.reshape(flat))


def _swap_tokens(tokens: jax.Array, places: jax.Array) -> jax.Array:
    """Swaps the tokens at the two `places` `[B, 2]` of each row."""
    rows = jnp.arange(tokens.shape[0])[:, None]
    return tokens.at[rows, places].set(tokens[rows, places[:, ::-1]])


def _swap_entries(table: jax.Array, rows: jax.Array, pair: jax.Array, entries) -> jax.Array:
    """Swaps `entries` of the last axis of `table` `[B, K, n]` between the chains of `pair`."""
    index = rows[:, None, None], pair[..., None], jnp.array(entries)
    swapped = rows[:, None, None], pair[:, ::-1, None], jnp.array(entries)
    return table.at[index].set(table[swapped])
