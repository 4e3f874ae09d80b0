"""Rotary position embedding with its length scalings, half-split ("rotate-half") layout.

Su et al. 2021 (arXiv 2104.09864); YaRN: Peng et al. 2023 (arXiv 2309.00071); LongRoPE: Ding et
al. 2024 (arXiv 2402.13753); the llama3 rule is that of Llama 3.1's reference code.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.lm.config import LMConfig, RopeScaling


def rope_tables(
    cfg: LMConfig, positions: jax.Array, *, cache_slots: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """cos and sin [B, T, n_frequencies], float32, of the rotation angles at `positions` [B, T].

    longrope takes its long factors when the largest position of the batch needs more than
    original_max_seq_len tokens, or, when decoding with a cache, iff the cache has more slots.
    """
    short, long, scale = rope_frequencies(cfg)
    if long is None or (cache_slots is not None and cache_slots <= _original_length(cfg)):
        frequencies = jnp.asarray(short)
    elif cache_slots is not None:
        frequencies = jnp.asarray(long)
    else:
        is_long = jnp.max(positions) + 1 > _original_length(cfg)
        frequencies = jnp.where(is_long, jnp.asarray(long), jnp.asarray(short))
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def apply_rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the first 2 n_frequencies components of every head of x [B, T, heads, d]."""
    n = cos.shape[-1]
    cos, sin = cos[:, :, None].astype(x.dtype), sin[:, :, None].astype(x.dtype)
    first, second, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([*rotated, rest] if rest.shape[-1] else rotated, axis=-1)


def rope_frequencies(cfg: LMConfig) -> tuple[np.ndarray, np.ndarray | None, float]:
    """(frequencies, long frequencies or None, factor on cos and sin); radians per position.

    Frequencies are float32 [n_frequencies], computed on the host in float64.
    """
    r = cfg.rotary_dim
    base = float(cfg.rope_theta) ** (-np.arange(0, r, 2, dtype=np.float64) / r)
    scaling = cfg.rope_scaling
    if scaling is None:
        return base.astype(np.float32), None, 1.0
    if scaling.kind == "linear":
        return (base / scaling.factor).astype(np.float32), None, 1.0
    if scaling.kind == "llama3":
        return _llama3(base, scaling).astype(np.float32), None, 1.0
    if scaling.kind == "yarn":
        return _yarn(base, scaling, cfg).astype(np.float32), None, _yarn_scale(scaling)
    short = (base / np.asarray(scaling.short_factor)).astype(np.float32)
    long = (base / np.asarray(scaling.long_factor)).astype(np.float32)
    return short, long, _longrope_scale(scaling, cfg.max_seq_len)


def _original_length(cfg: LMConfig) -> int:
    return cfg.rope_scaling.original_max_seq_len if cfg.rope_scaling else cfg.max_seq_len


def _llama3(base: np.ndarray, s: RopeScaling) -> np.ndarray:
    """Long wavelengths are divided by factor, short ones kept, those between interpolated."""
    wavelength = 2 * math.pi / base
    turns = s.original_max_seq_len / wavelength
    blend = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
    between = (1 - blend) * base / s.factor + blend * base
    return np.where(
        turns < s.low_freq_factor,
        base / s.factor,
        np.where(turns > s.high_freq_factor, base, between),
    )


def _yarn(base: np.ndarray, s: RopeScaling, cfg: LMConfig) -> np.ndarray:
    """Interpolates (divides by factor) past a ramp over frequency numbers; YaRN section 3.2."""
    r = cfg.rotary_dim

    def frequency_with(turns):
        length = s.original_max_seq_len / (turns * 2 * math.pi)
        return r * math.log(length) / (2 * math.log(cfg.rope_theta))

    low, high = frequency_with(s.beta_fast), frequency_with(s.beta_slow)
    if s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, r - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(len(base)) - low) / (high - low), 0, 1)
    return base / s.factor * ramp + base * (1 - ramp)


def _yarn_scale(s: RopeScaling) -> float:
    def temperature(mscale):
        return 1.0 if s.factor <= 1 else 0.1 * mscale * math.log(s.factor) + 1.0

    if s.attention_factor is not None:
        return s.attention_factor
    if s.mscale and s.mscale_all_dim:
        return temperature(s.mscale) / temperature(s.mscale_all_dim)
    return temperature(1.0)


def _longrope_scale(s: RopeScaling, max_seq_len: int) -> float:
    if s.attention_factor is not None:
        return s.attention_factor
    stretch = s.factor if s.factor != 1 else max_seq_len / s.original_max_seq_len
    return (
        1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(s.original_max_seq_len))
    )
