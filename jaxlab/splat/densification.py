"""Adding and removing Gaussians during a fit, in a fixed number of slots."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.arrays import is_concrete
from jaxlab.splat.fit_state import FitConfig, FitState, zero_where
from jaxlab.splat.rotations import quat_to_rotmat
from jaxlab.splat.types import GaussianCloud

_SPLIT_SHRINK = math.log(1.6)


def densify_and_prune(
    key: jax.Array, state: FitState, config: FitConfig, *, prune_large: ArrayLike = True
) -> FitState:
    """Frees faint slots, then gives free slots to the Gaussians that move most in screen space.

    1. A Gaussian below `prune_opacity` (or above `prune_scale`, if that is set) dies.
    2. One whose mean gradient exceeds `grow_grad` grows.
    3. Free slots in index order go to growers by descending gradient; the rest waits.
    4. A grower up to `grow_scale` extents is cloned into its slot; a larger one is split: both get
       a mean drawn from it and its scales divided by 1.6.
    5. Moments of new, split and dead slots are zeroed, and all accumulators.

    Args:
      key: for the means of split Gaussians.
      state: at any step.
      config: static.
      prune_large: `()` bool, whether `prune_scale` counts.

    Source: Kerbl et al., "3D Gaussian Splatting" (2023), section 5.
    """
    cloud, slots = state.cloud, state.alive.shape[0]
    largest = jnp.exp(cloud.log_scales.max(-1))
    dying = jax.nn.sigmoid(cloud.opacity_logits) < config.prune_opacity
    if config.prune_scale > 0:
        dying |= jnp.asarray(prune_large) & (largest > config.prune_scale * config.extent)
    alive = state.alive & ~dying

    gradient = state.grad_accum / jnp.maximum(state.vis_count, 1)
    grows = alive & (gradient > config.grow_grad)
    growers = jnp.argsort(jnp.where(grows, -gradient, jnp.inf), stable=True)
    free = jnp.argsort(alive, stable=True)
    given = jnp.arange(slots) < jnp.minimum(grows.sum(), (~alive).sum())
    # Out of range where no pair is made; such writes are dropped.
    source, target = jnp.where(given, growers, slots), jnp.where(given, free, slots)

    cloned = jax.tree.map(lambda x: x.at[target].set(x[growers], mode="drop"), cloud)
    alive = alive.at[target].set(True, mode="drop")
    fresh = jnp.zeros(slots, bool).at[target].set(True, mode="drop")
    splits = given & (largest[growers] > config.grow_scale * config.extent)
    halves = jnp.concatenate([jnp.where(splits, source, slots), jnp.where(splits, target, slots)])
    split = jnp.zeros(slots, bool).at[halves].set(True, mode="drop")
    noise = jnp.exp(cloned.log_scales) * jax.random.normal(key, (slots, 3), cloud.means.dtype)
    moved = jnp.einsum("nij,nj->ni", quat_to_rotmat(cloned.quats), noise)
    cloned = cloned._replace(
        means=jnp.where(split[:, None], cloned.means + moved, cloned.means),
        log_scales=cloned.log_scales - jnp.where(split[:, None], _SPLIT_SHRINK, 0),
    )

    forget = fresh | split | ~alive
    return FitState(
        cloned,
        alive,
        zero_where(forget, state.mu),
        zero_where(forget, state.nu),
        jnp.zeros_like(state.grad_accum),
        jnp.zeros_like(state.vis_count),
        state.step,
    )


def reset_opacity(state: FitState, *, value: float = 0.01) -> FitState:
    """Lowers every opacity to at most `value` and forgets its moments.

    Raises:
      ValueError: a value outside (0, 1).
    """
    if is_concrete(value) and not 0 < value < 1:
        raise ValueError(f"value must lie in (0, 1), got {value}")
    logits = jnp.minimum(state.cloud.opacity_logits, jnp.log(value / (1 - value)))

    def forget(moments: GaussianCloud) -> GaussianCloud:
        return moments._replace(opacity_logits=jnp.zeros_like(moments.opacity_logits))

    return state._replace(
        cloud=state.cloud._replace(opacity_logits=logits),
        mu=forget(state.mu),
        nu=forget(state.nu),
    )
