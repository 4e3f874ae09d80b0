"""RMS and layer normalisation with float32 statistics (Zhang & Sennrich 2019; Ba et al. 2016)."""

import jax
import jax.numpy as jnp


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x * rsqrt(mean x^2 + eps) * scale over the last axis; x [..., n], scale [n], dtype of x."""
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    # The released checkpoints' own code multiplies by the scale after the cast back.
    return normed.astype(x.dtype) * scale.astype(x.dtype)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """(x - mean) * rsqrt(var + eps) * scale + bias over the last axis (biased variance)."""
    x32 = x.astype(jnp.float32)
    centered = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
    return (centered * jax.lax.rsqrt(variance + eps) * scale + bias).astype(x.dtype)


def apply_norm(x: jax.Array, params: dict, eps: float) -> jax.Array:
    """Layer norm where `params` has a "bias", else RMS norm by its "scale"."""
    if "bias" in params:
        return layer_norm(x, params["scale"], params["bias"], eps)
    return rms_norm(x, params["scale"], eps)
