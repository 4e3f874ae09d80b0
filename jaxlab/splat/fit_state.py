"""Settings and state of a fit."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.splat.types import GaussianCloud

STRATEGIES = ("default", "mcmc")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How a cloud is fitted to images. The defaults are a short schedule for small objects.

    Kerbl et al. use for real captures: 30,000 steps, `lr_means` 1.6e-4 to 1.6e-6, `lr_sh` 2.5e-3,
    `lr_scales` 5e-3, `lr_quats` 1e-3, `lr_decay` 1, `sh_every` 1000, `densify_from` 500,
    `densify_until` 15,000, `reset_every` 3000, `prune_scale` 0.1.

    Attributes:
      capacity: slots for Gaussians.
      num_steps: optimizer steps, one view each.
      sh_degree: bands of the colour.
      sh_every: steps between the start of one band and of the next; 0 starts all at once.
      lr_means, lr_means_final: rate of the positions, times `extent`, log-linear over the fit.
      lr_scales, lr_quats, lr_opacity: rates at the start.
      lr_sh: rate of the first band at the start; the others have a twentieth.
      lr_decay: factor that the rates other than the positions' end with, log-linear.
      lambda_dssim: weight of the structural term of the loss.
      strategy: `"default"` clones, splits and prunes; `"mcmc"` keeps their number, moves faint
        ones onto visible ones, and adds noise to means (Kheradmand et al. 2024).
      densify_every, densify_from, densify_until: steps at which the strategy acts; 0 never does.
      reset_every: steps between resets of the opacity; 0 never does.
      grow_grad: mean gradient in screen space above which a Gaussian grows.
      grow_scale: largest deviation, in extents, up to which it is cloned rather than split.
      prune_opacity: opacity below which one is removed.
      prune_scale: largest deviation, in extents, above which one is removed, from the first reset
        of the opacity on; 0 keeps all.
      extent: size of the scene.
      random_background: draws a colour behind the object at each step, which pins its alpha.
      tile_size, tile_capacity: of the renderer.
    """

    capacity: int = 512
    num_steps: int = 600
    sh_degree: int = 0
    sh_every: int = 0
    lr_means: float = 2e-3
    lr_means_final: float = 2e-4
    lr_scales: float = 1e-2
    lr_quats: float = 5e-3
    lr_opacity: float = 5e-2
    lr_sh: float = 2e-2
    lr_decay: float = 0.3
    lambda_dssim: float = 0.2
    strategy: str = "default"
    densify_every: int = 100
    densify_from: int = 100
    densify_until: int = 400
    reset_every: int = 0
    grow_grad: float = 2e-4
    grow_scale: float = 0.01
    prune_opacity: float = 0.005
    prune_scale: float = 0.0
    extent: float = 1.0
    random_background: bool = True
    tile_size: int = 8
    tile_capacity: int = 128


class FitState(NamedTuple):
    """What a fit carries, with static shapes.

    Attributes:
      cloud: `capacity` Gaussians.
      alive: `[capacity]` bool, which slots are in use.
      mu, nu: Adam's moments, shaped like the cloud.
      grad_accum: `[capacity]`, norms of gradients in screen space, summed.
      vis_count: `[capacity]` int32, steps that contributed to them.
      step: `()` int32, optimizer steps taken.
    """

    cloud: GaussianCloud
    alive: jax.Array
    mu: GaussianCloud
    nu: GaussianCloud
    grad_accum: jax.Array
    vis_count: jax.Array
    step: jax.Array


def init_fit_state(cloud: GaussianCloud, alive: jax.Array) -> FitState:
    """The state before the first step."""
    cloud = jax.tree.map(jnp.asarray, cloud)
    zeros = jax.tree.map(jnp.zeros_like, cloud)
    alive = jnp.asarray(alive, bool)
    return FitState(
        cloud,
        alive,
        zeros,
        jax.tree.map(jnp.zeros_like, cloud),
        jnp.zeros(alive.shape, cloud.means.dtype),
        jnp.zeros(alive.shape, jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def zero_where(mask: jax.Array, tree: GaussianCloud) -> GaussianCloud:
    """A tree shaped like the cloud with zeros in the slots that `mask` `[capacity]` marks."""
    return jax.tree.map(lambda x: jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), 0, x), tree)
