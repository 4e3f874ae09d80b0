"""A small decoder of which every activation can be read and replaced.

Plain pytrees: the circuits, patches and knock-outs of this room are arithmetic on parameters and
activations. Weights act on the right, residuals are `h + Attn(LN(h))`, attention-only by default.
Axes: B sequences, T positions, L layers, H heads, V tokens.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least, check_choice

Params = dict[str, Any]

_EPS = 1e-5
_MASKED = -1e30  # finite: a row whose every key is knocked out stays finite
_ROPE_BASE = 10_000.0
NORMS = ("pre", "none")
POSITIONS = ("learned", "rope", "none")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of the decoder.

    Attributes:
      n_tokens: V.
      max_len: longest sequence.
      dim: width of the residual stream.
      n_layers, n_heads: L and H; the width of a head is dim / H.
      mlp_ratio: hidden width of each layer's MLP over `dim`; 0 leaves the MLPs out.
      norm: `"pre"` (LayerNorm before each part and at the end) or `"none"`.
      pos: `"learned"`, `"rope"` or `"none"`.

    Raises:
      ValueError: a size below 1 (`mlp_ratio` below 0), heads that do not divide the width, an odd
        head with rope, or an unknown norm or pos.
    """

    n_tokens: int = 34
    max_len: int = 22
    dim: int = 256
    n_layers: int = 3
    n_heads: int = 1
    mlp_ratio: int = 0
    norm: str = "pre"
    pos: str = "learned"

    def __post_init__(self):
        least = {"n_tokens": 1, "max_len": 1, "dim": 1, "n_layers": 1, "n_heads": 1, "mlp_ratio": 0}
        for name, smallest in least.items():
            check_at_least(name, getattr(self, name), smallest)
        if self.dim % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} does not divide dim {self.dim}")
        for name, choices in (("norm", NORMS), ("pos", POSITIONS)):
            check_choice(name, getattr(self, name), choices)
        if self.pos == "rope" and self.head_dim % 2:
            raise ValueError(f"rope needs an even head width, got {self.head_dim}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_heads


class Cache(NamedTuple):
    """Every activation of a forward pass.

    Attributes:
      resid: `[L+1, B, T, dim]`; entry l enters layer l (after any patch), entry L the final norm.
      attn_logits: `[L, B, H, T, T]` scaled, with the intervention's bias, before masking.
      attn_weights: `[L, B, H, T, T]`, exactly 0 above the diagonal.
      values: `[L, B, H, T, head_dim]`.
    """

    resid: jax.Array
    attn_logits: jax.Array
    attn_weights: jax.Array
    values: jax.Array


class Interventions(NamedTuple):
    """What to change on the way.

    Attributes:
      attn_bias: `[L, B, H, T, T]` added to the scaled logits before masking.
      resid_value: `[L+1, B, T, dim]` replaces the residual stream where `resid_mask` is true.
      resid_mask: `[L+1, B, T]`.
    """

    attn_bias: jax.Array | None = None
    resid_value: jax.Array | None = None
    resid_mask: jax.Array | None = None


def init_params(key: jax.Array, config: ModelConfig) -> Params:
    """Parameters as PyTorch initialises them, on which the transition's time depends.

    Embeddings are standard normal, matrices uniform in +-1/sqrt(fan_in), norms (1, 0).
    """
    dim, hidden = config.dim, config.mlp_ratio * config.dim
    token_key, position_key, unembed_key, *layer_keys = jax.random.split(key, 3 + config.n_layers)

    def layer(key: jax.Array) -> dict[str, Any]:
        keys = iter(jax.random.split(key, 6))
        weights: dict[str, Any] = {
            name: _uniform(next(keys), dim, dim) for name in ("wq", "wk", "wv", "wo")
        }
        if hidden:
            weights |= {"w1": _uniform(next(keys), dim, hidden)}
            weights |= {"w2": _uniform(next(keys), hidden, dim)}
        if config.norm == "pre":
            weights |= {"ln1": _identity_norm(dim)}
            weights |= {"ln2": _identity_norm(dim)} if hidden else {}
        return weights

    params: Params = {
        "tok": jax.random.normal(token_key, (config.n_tokens, dim)),
        "unembed": _uniform(unembed_key, dim, config.n_tokens),
        "layers": tuple(layer(key) for key in layer_keys),
    }
    if config.pos == "learned":
        params["pos"] = jax.random.normal(position_key, (config.max_len, dim))
    if config.norm == "pre":
        params["ln_f"] = _identity_norm(dim)
    return params


def forward(params: Params, tokens: jax.Array, config: ModelConfig) -> jax.Array:
    """Logits `[B, T, V]` of token ids `[B, T]`.

    Raises:
      ValueError: tokens that are not `[B, T]` or longer than `max_len`.
      TypeError: tokens that are not integers.
    """
    return unembed(params, _residual(params, tokens, config)[0], config)


def forward_with_cache(
    params: Params,
    tokens: jax.Array,
    config: ModelConfig,
    interventions: Interventions | None = None,
) -> tuple[jax.Array, Cache]:
    """`forward` with every activation returned, and some of them replaced.

    Raises:
      ValueError: as `forward`; an intervention of another shape; a value without its mask.
      TypeError: as `forward`.
    """
    changes = interventions or Interventions()
    resid, seen = _residual(params, tokens, config, changes)
    streams, logits, weights, values = zip(*seen, strict=True)
    cache = Cache(
        jnp.stack([*streams, resid]), jnp.stack(logits), jnp.stack(weights), jnp.stack(values)
    )
    return unembed(params, resid, config), cache


def query_logits(params: Params, tokens: jax.Array, config: ModelConfig) -> jax.Array:
    """Logits `[B, V]` of the last position only, by the cheapest exact route.

    The last layer is needed at one row. With one head and no rotation, `Wq Wk^T` and `Wv Wo` are
    formed once and two projections replace four.

    Raises:
      ValueError, TypeError: as `forward`.
    """
    merged = config.n_heads == 1 and config.pos != "rope"
    x = _embed(params, tokens, config)
    visible = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
    for number, layer in enumerate(params["layers"]):
        h = _norm(x, layer.get("ln1"))
        if number == config.n_layers - 1:
            query, x, visible = h[:, -1:], x[:, -1:], visible[-1:]
        else:
            query = h
        if merged:
            x = x + _merged_attention(layer, query, h, visible, config)
        else:
            x = x + _attention(layer, query, h, visible, config)[0]
        x = x + _mlp(layer, x)
    return unembed(params, x[:, -1], config)


def unembed(params: Params, resid: jax.Array, config: ModelConfig) -> jax.Array:
    """Logits of a residual stream `[..., dim]`: the final norm, then the unembedding."""
    return final_norm(params, resid, config) @ params["unembed"]


def final_norm(params: Params, resid: jax.Array, config: ModelConfig) -> jax.Array:
    """The final norm of vectors `[..., dim]`; the identity where there is none."""
    return _norm(resid, params["ln_f"] if config.norm == "pre" else None)


def check_tokens(tokens: jax.Array, config: ModelConfig) -> jax.Array:
    """Returns `tokens` as an array `[B, T]` of integers, or raises."""
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 2:
        raise ValueError(f"tokens must be [B, T], got shape {tokens.shape}")
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if tokens.shape[1] > config.max_len:
        raise ValueError(
            f"sequences of {tokens.shape[1]} tokens are longer than max_len {config.max_len}"
        )
    return tokens


def _residual(params, tokens, config, changes=Interventions()):  # noqa: B008
    """The stream that enters the final norm, and (stream, logits, weights, values) by layer."""
    x = _embed(params, tokens, config)
    batch, length, _ = x.shape
    _check_changes(changes, config, batch, length)
    visible = jnp.tril(jnp.ones((length, length), bool))
    seen = []
    for number, layer in enumerate(params["layers"]):
        x = _patched(x, changes, number)
        bias = None if changes.attn_bias is None else changes.attn_bias[number]
        h = _norm(x, layer.get("ln1"))
        out, logits, weights, values = _attention(layer, h, h, visible, config, bias)
        seen.append((x, logits, weights, values))
        x = x + out
        x = x + _mlp(layer, x)
    return _patched(x, changes, config.n_layers), seen


def _embed(params: Params, tokens: jax.Array, config: ModelConfig) -> jax.Array:
    tokens = check_tokens(tokens, config)
    x = jnp.asarray(params["tok"])[tokens]
    return x + params["pos"][: tokens.shape[1]] if config.pos == "learned" else x


def _attention(layer, query, keys, visible, config: ModelConfig, bias=None):
    """Output `[B, t, dim]`, logits and weights `[B, H, t, T]`, values `[B, H, T, head_dim]`."""
    q, k, v = (
        _split_heads(x @ layer[name], config)
        for x, name in ((query, "wq"), (keys, "wk"), (keys, "wv"))
    )
    if config.pos == "rope":
        positions = jnp.arange(keys.shape[1])
        q, k = _rotate(q, positions[-query.shape[1] :]), _rotate(k, positions)
    logits = jnp.einsum("bhid,bhjd->bhij", q, k) / config.head_dim**0.5
    if bias is not None:
        logits = logits + bias
    weights = _softmax(logits, visible)
    out = jnp.einsum("bhij,bhjd->bihd", weights, v)
    return out.reshape(query.shape) @ layer["wo"], logits, weights, v


def _merged_attention(layer, query, keys, visible, config: ModelConfig) -> jax.Array:
    probe = query @ (layer["wq"] @ layer["wk"].T)
    weights = _softmax(probe @ keys.mT / config.head_dim**0.5, visible)
    return (weights @ keys) @ (layer["wv"] @ layer["wo"])


def _softmax(logits: jax.Array, visible: jax.Array) -> jax.Array:
    weights = jax.nn.softmax(as_wide_float(jnp.where(visible, logits, _MASKED)), axis=-1)
    return jnp.where(visible, weights, 0).astype(logits.dtype)


def _mlp(layer, x: jax.Array) -> jax.Array | float:
    if "w1" not in layer:
        return 0.0
    return jax.nn.relu(_norm(x, layer.get("ln2")) @ layer["w1"]) @ layer["w2"]


def _norm(x: jax.Array, norm: dict[str, jax.Array] | None) -> jax.Array:
    if norm is None:
        return x
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + _EPS)
    return centred * scale * norm["scale"] + norm["bias"]


def _split_heads(x: jax.Array, config: ModelConfig) -> jax.Array:
    return x.reshape(*x.shape[:2], config.n_heads, config.head_dim).swapaxes(1, 2)


def _rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    half = x.shape[-1] // 2
    frequency = _ROPE_BASE ** (-jnp.arange(half) / half)
    angle = positions[:, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _patched(x: jax.Array, changes: Interventions, layer: int) -> jax.Array:
    if changes.resid_mask is None or changes.resid_value is None:
        return x
    return jnp.where(changes.resid_mask[layer][..., None], changes.resid_value[layer], x)


def _check_changes(changes: Interventions, config: ModelConfig, batch: int, length: int) -> None:
    if (changes.resid_value is None) != (changes.resid_mask is None):
        raise ValueError("resid_value and resid_mask belong together; give both or neither")
    layers = config.n_layers
    wanted = {
        "attn_bias": (layers, batch, config.n_heads, length, length),
        "resid_value": (layers + 1, batch, length, config.dim),
        "resid_mask": (layers + 1, batch, length),
    }
    for name, shape in wanted.items():
        given = getattr(changes, name)
        if given is not None and jnp.shape(given) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {jnp.shape(given)}")


def _uniform(key: jax.Array, fan_in: int, fan_out: int) -> jax.Array:
    bound = fan_in**-0.5
    return jax.random.uniform(key, (fan_in, fan_out), minval=-bound, maxval=bound)


def _identity_norm(dim: int) -> dict[str, jax.Array]:
    return {"scale": jnp.ones(dim), "bias": jnp.zeros(dim)}
