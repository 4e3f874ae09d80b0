"""The tanh of a Gaussian, with its exact log-density (Haarnoja et al. 2018, arXiv 1812.05905)."""

import math

import jax
import jax.numpy as jnp


def squash_sample(
    mean: jax.Array, log_std: jax.Array, eps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """tanh(mean + exp(log_std) eps) `[B, A]` and its log-density `[B]`, nats.

    Args:
      mean, log_std: `[B, A]`.
      eps: `[B, A]`, standard normal.
    """
    pre_tanh = mean + jnp.exp(log_std) * eps
    return jnp.tanh(pre_tanh), _log_density(eps, log_std, pre_tanh)


def squashed_log_prob(mean: jax.Array, log_std: jax.Array, pre_tanh: jax.Array) -> jax.Array:
    """Log-density `[B]` of tanh(pre_tanh); from the action itself it could not be had exactly."""
    return _log_density((pre_tanh - mean) * jnp.exp(-log_std), log_std, pre_tanh)


def _log_density(eps, log_std, pre_tanh):
    # log(1 - tanh(u)^2), finite and differentiable however large u is.
    log_slope = 2 * (math.log(2) - pre_tanh - jax.nn.softplus(-2 * pre_tanh))
    normal = -jnp.square(eps) / 2 - log_std - math.log(2 * math.pi) / 2
    return jnp.sum(normal - log_slope, axis=-1)
