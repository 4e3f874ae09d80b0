"""One large batch spread over devices, gradients averaged before the optimizers."""

import functools
from collections.abc import Callable

import jax

from jaxlab import parallel
from jaxlab.rl.sac import Metrics, Noise, SACConfig, SACOptimizers, SACState, sac_step
from jaxlab.rl.transition import Transition


def make_pmap_step(
    config: SACConfig, n_devices: int, optimizers: SACOptimizers | None = None
) -> Callable[[SACState, Transition, Noise], tuple[SACState, Metrics]]:
    """`sac_step` on `n_devices`, equal to one step on the whole batch.

    Returns:
      `step(states, batch, noise) -> (states, metrics)`, all with a leading device axis, as
      `replicate` and `shard_batch` make it; metrics are averaged over devices. States are donated.

    Raises:
      ValueError: fewer than one device, or more than there are.
    """
    available = jax.local_devices()
    if not 1 <= n_devices <= len(available):
        raise ValueError(f"n_devices must lie in 1..{len(available)}, got {n_devices}")
    step = functools.partial(sac_step, config=config, optimizers=optimizers, axis=parallel.AXIS)
    return parallel.map_shards(step, devices=available[:n_devices], donate_argnums=0)
