"""From logits to one token per row: penalties, filters, and a draw that only the row's key decides.

Axes: B rows, V vocabulary entries. The filters and their order are those of Hugging Face
transformers (repetition penalty, temperature, top-k, top-p, min-p); a filtered logit is -inf.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxlab.checks import check_equal_shapes

_BLOCK = 256  # entries per block of the two-level inverse CDF


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen; hashable, so that it can be a static argument.

    Attributes:
      temperature: logits are divided by it; 0 takes the first largest logit.
      top_k: keep the k largest logits and all that tie with the k-th; 0 keeps all.
      top_p: keep the most probable tokens until their mass reaches `top_p`; 1 keeps all.
      min_p: drop tokens less probable than `min_p` times the most probable one.
      repetition_penalty: divides positive and multiplies negative logits of ids already seen.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        def check(holds: bool, field: str, remedy: str):
            if not holds:
                raise ValueError(f"SamplingConfig.{field}={getattr(self, field)}: {remedy}")

        check(self.temperature >= 0, "temperature", "use 0 (greedy) or a positive number")
        check(self.top_k >= 0, "top_k", "use 0 (off) or a positive number of tokens")
        check(0 < self.top_p <= 1, "top_p", "use a probability in (0, 1]; 1 is off")
        check(0 <= self.min_p <= 1, "min_p", "use a ratio in [0, 1]; 0 is off")
        check(self.repetition_penalty > 0, "repetition_penalty", "use a positive number; 1 is off")


UNFILTERED = SamplingConfig()


def process_logits(
    logits: jax.Array, sampling: SamplingConfig, *, seen: jax.Array | None = None
) -> jax.Array:
    """Penalised, tempered and filtered logits, the distribution that `sample` draws from.

    Args:
      logits: [B, V].
      sampling: the filters; static.
      seen: [B, V] bool, the ids that the repetition penalty counts as seen; None: none.

    Returns:
      [B, V] logits, -inf where a filter dropped the token. At temperature 0 only the first
      largest logit stays, so its log-probability is 0.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must be [B, V], got shape {logits.shape}")
    check_equal_shapes(logits=logits, seen=seen)
    if sampling.repetition_penalty != 1.0 and seen is not None:
        penalty = sampling.repetition_penalty
        penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
        logits = jnp.where(seen, penalised, logits)
    if sampling.temperature == 0:
        ids = jnp.arange(logits.shape[-1])
        return jnp.where(ids == _first_largest(logits)[:, None], logits, -jnp.inf)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = jnp.where(_below_kth(logits, sampling.top_k), -jnp.inf, logits)
    if sampling.top_p < 1:
        logits = jnp.where(_outside_nucleus(logits, sampling.top_p), -jnp.inf, logits)
    if sampling.min_p > 0:
        ratio = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        logits = jnp.where(ratio < sampling.min_p, -jnp.inf, logits)
    return logits


def sample(
    row_keys: jax.Array,
    logits: jax.Array,
    sampling: SamplingConfig,
    *,
    seen: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """One token per row from the processed logits; a row's token depends on its own key alone.

    Args:
      row_keys: [B] keys, one per row (`jax.random.split(key, B)`).
      logits: [B, V].
      sampling: the filters; static.
      seen: [B, V] bool, see `process_logits`.

    Returns:
      (tokens [B] int32, processed logits [B, V]).
    """
    check_row_keys(row_keys, logits.shape[0])
    processed = process_logits(logits, sampling, seen=seen)
    if sampling.temperature == 0:
        return _first_largest(processed), processed
    uniforms = jax.vmap(jax.random.uniform)(row_keys)
    return _inverse_cdf(uniforms, processed), processed


def check_row_keys(row_keys: jax.Array, batch_size: int):
    """Raises ValueError unless `row_keys` is one typed key for each of `batch_size` rows."""
    if not jnp.issubdtype(getattr(row_keys, "dtype", object), jax.dtypes.prng_key):
        raise ValueError("keys must be typed: make them with jax.random.key, not PRNGKey")
    if row_keys.shape != (batch_size,):
        raise ValueError(
            f"keys of shape {row_keys.shape} for {batch_size} rows; pass one key per row, "
            f"shape ({batch_size},)"
        )


def mark_seen(seen: jax.Array, tokens: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """`seen` [B, V] bool with the ids `tokens` [B, T] switched on, where `valid` [B, T]."""
    rows = jnp.arange(seen.shape[0])[:, None]
    return seen.at[rows, tokens].max(True if valid is None else valid)


def _first_largest(logits: jax.Array) -> jax.Array:
    """argmax over V, [B] int32; two vectorised passes, on CPU 10x the speed of `jnp.argmax`."""
    largest = jnp.max(logits, axis=-1, keepdims=True)
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    first = jnp.min(jnp.where(logits == largest, ids, logits.shape[-1]), axis=-1)
    return jnp.minimum(first, logits.shape[-1] - 1)  # NaN logits equal nothing


def _below_kth(logits: jax.Array, k: int) -> jax.Array:
    """[B, V] bool: what is smaller than the k-th largest logit of its row.

    By bisection, as `_outside_nucleus`: inside a loop, XLA's CPU backend turns `lax.top_k` into
    a full sort.
    """
    ranks = _ranks(logits)

    def halve(_, bounds):
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        enough = jnp.sum(ranks >= middle[:, None], axis=-1) >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    info = jnp.iinfo(jnp.int32)
    low = jnp.full(logits.shape[:1], info.min, jnp.int32)
    kth, _ = lax.fori_loop(0, 32, halve, (low, jnp.full_like(low, info.max)))
    return ranks < kth[:, None]


def _ranks(values: jax.Array) -> jax.Array:
    """int32 numbers in the order of the float32 `values`, equal where these are."""
    bits = lax.bitcast_convert_type(values.astype(jnp.float32) + 0.0, jnp.int32)  # -0 is 0
    return bits ^ ((bits >> 31) & jnp.iinfo(jnp.int32).max)


def _outside_nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """[B, V] bool: what ascending sort and cumulative probability <= 1 - top_p would drop.

    Without the sort (on CPU 0.4 s for 32 rows of 50k): the probability at which the cumulative
    sum crosses 1 - top_p is found by bisection over the bit patterns of float32, whose order is
    that of the numbers. Among equal probabilities the later ids stay.
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    bits = _ranks(probs)
    tail = jnp.float32(1 - top_p)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        mass = jnp.sum(jnp.where(bits <= middle[:, None], probs, 0), axis=-1)
        dropped = mass <= tail
        return jnp.where(dropped, middle, low), jnp.where(dropped, high, middle)

    highest = jnp.max(bits, axis=-1)  # never dropped: the best token always stays
    _, edge = lax.fori_loop(0, 31, halve, (jnp.full_like(highest, -1), highest))
    edge = edge[:, None]
    below = jnp.sum(jnp.where(bits < edge, probs, 0), axis=-1, keepdims=True)
    tied = bits == edge
    tied_mass = below + jnp.cumsum(tied, axis=-1) * lax.bitcast_convert_type(edge, jnp.float32)
    last_tied = jnp.cumsum(tied[:, ::-1], axis=-1)[:, ::-1] == 1
    return (bits < edge) | (tied & ~last_tied & (tied_mass <= tail))


def _inverse_cdf(uniforms: jax.Array, logits: jax.Array) -> jax.Array:
    """The ids at which the cumulative probability first exceeds `uniforms` [B]; [B] int32.

    Two levels: the block by a cumulative sum over block masses, the entry by one inside the block.
    On CPU this is 8x faster than one sum over V and 40x faster than Gumbel noise for 32 rows of
    50k. Entries of probability 0 are never taken, whatever the sums round to.
    """
    probs = jnp.exp(logits.astype(jnp.float32) - jnp.max(logits, axis=-1, keepdims=True))
    vocab = probs.shape[-1]
    num_blocks = -(-vocab // _BLOCK)
    probs = jnp.pad(probs, ((0, 0), (0, num_blocks * _BLOCK - vocab)))
    probs = probs.reshape(-1, num_blocks, _BLOCK)
    masses = jnp.sum(probs, axis=-1)
    cumulative = jnp.cumsum(masses, axis=-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    block = _first_above(cumulative, target, masses > 0)
    inside = jnp.take_along_axis(probs, block[:, None, None], axis=1)[:, 0]
    before = jnp.take_along_axis(cumulative - masses, block[:, None], axis=1)
    entry = _first_above(before + jnp.cumsum(inside, axis=-1), target, inside > 0)
    return (block * _BLOCK + entry).astype(jnp.int32)


def _first_above(cumulative: jax.Array, target: jax.Array, allowed: jax.Array) -> jax.Array:
    """The first allowed index whose sum exceeds `target` [B, 1], else the last allowed; [B]."""
    above = allowed & (cumulative > target)
    last_allowed = allowed.shape[-1] - 1 - jnp.argmax(allowed[:, ::-1], axis=-1)
    return jnp.where(jnp.any(above, axis=-1), jnp.argmax(above, axis=-1), last_allowed)
