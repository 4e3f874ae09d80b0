"""The other strategy of a fit: a constant number of Gaussians, moved to where they are needed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.splat.fit_state import FitConfig, FitState, zero_where
from jaxlab.splat.geometry import covariance

_MOST_COPIES = 51
_NOISE = 5e5  # in units of the positions' learning rate
_STEEPNESS = 100.0


def relocate_faint(key: jax.Array, state: FitState, config: FitConfig) -> FitState:
    """Moves each Gaussian at or below `prune_opacity` onto a visible one, drawn by opacity.

    All that then share a place get the opacity and scales that keep the peak of the stack and its
    integral along a line; their moments are zeroed, and the accumulators.

    Args:
      key: of the draw.
      state: at any step; slots that are not alive stay so.
      config: static.

    Source: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo" (2024), arXiv
    2404.09591, equation 9.
    """
    cloud, slots = state.cloud, state.alive.shape[0]
    opacity = jax.nn.sigmoid(cloud.opacity_logits)
    visible = state.alive & (opacity > config.prune_opacity)
    faint = state.alive & ~visible & visible.any()
    weights = jnp.where(visible, jnp.log(opacity), -jnp.inf)
    target = jax.random.categorical(key, weights, shape=(slots,))
    source = jnp.where(faint, target, jnp.arange(slots))
    copies = jnp.zeros(slots, jnp.int32).at[source].add(1)[source]
    shared = state.alive & (copies > 1)
    gathered = jax.tree.map(lambda x: x[source], cloud)
    new_opacity, shrink = share_opacity(opacity[source], copies)
    logits = jnp.log(new_opacity) - jnp.log1p(-new_opacity)
    moved = gathered._replace(
        opacity_logits=jnp.where(shared, logits, gathered.opacity_logits),
        log_scales=gathered.log_scales + jnp.where(shared, jnp.log(shrink), 0)[:, None],
    )
    return state._replace(
        cloud=moved,
        mu=zero_where(shared, state.mu),
        nu=zero_where(shared, state.nu),
        grad_accum=jnp.zeros_like(state.grad_accum),
        vis_count=jnp.zeros_like(state.vis_count),
    )


def share_opacity(opacity: jax.Array, copies: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Opacity of each of `copies` equal Gaussians in one place, and the factor of their scales.

    The stack's `1 - (1 - o' exp(-x^2 / 2 s'^2))^n` has the peak `o` and the integral
    `o s sqrt(2 pi)` of the one that was there. The double sum of the paper is
    `sum_m C(n, m) (-1)^(m - 1) o'^m / sqrt(m)`, with the inner binomials added up.

    Args:
      opacity: `[N]` before, in (0, 1).
      copies: `[N]` int32; more than 51 count as 51.
    """
    copies = jnp.minimum(copies, _MOST_COPIES)
    opacity = jnp.minimum(opacity, 1 - 1e-6)
    each = -jnp.expm1(jnp.log1p(-opacity) / copies)
    orders = np.arange(1, _MOST_COPIES + 1)
    table = np.array(
        [
            [(-1) ** (m - 1) * math.comb(n, m) / math.sqrt(m) for m in orders]
            for n in range(_MOST_COPIES + 1)
        ]
    )
    powers = each[:, None] ** jnp.asarray(orders, each.dtype)
    total = jnp.sum(jnp.asarray(table, each.dtype)[copies] * powers, -1)
    return each, opacity / total


def jiggle_means(
    key: jax.Array, state: FitState, learning_rate: ArrayLike, config: FitConfig
) -> FitState:
    """Noise in the shape of each Gaussian, on the means of those that are nearly invisible.

    Args:
      key: of the noise.
      state: at any step.
      learning_rate: of the positions at this step.
      config: static.
    """
    cloud = state.cloud
    faintness = jax.nn.sigmoid(
        _STEEPNESS * (config.prune_opacity - jax.nn.sigmoid(cloud.opacity_logits))
    )
    noise = jax.random.normal(key, cloud.means.shape, cloud.means.dtype)
    step = jnp.einsum("nij,nj->ni", covariance(cloud.log_scales, cloud.quats), noise)
    step *= (_NOISE * learning_rate * faintness * state.alive)[:, None]
    return state._replace(cloud=cloud._replace(means=cloud.means + step))
