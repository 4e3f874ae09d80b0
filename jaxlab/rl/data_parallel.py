"""One large batch spread over devices, also of several processes, gradients averaged before the
optimizers."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxlab import parallel
from jaxlab.rl.sac import Metrics, Noise, SACConfig, SACOptimizers, SACState, sac_step
from jaxlab.rl.transition import Transition


def make_pmap_step(
    config: SACConfig, n_devices: int, optimizers: SACOptimizers | None = None
) -> Callable[[SACState, Transition, Noise], tuple[SACState, Metrics]]:
    """`sac_step` on `n_devices`, equal to one step on the whole batch.

    In a run of several processes these are all of this process's, each process brings its rows,
    and gradients are averaged over the devices of all.

    Returns:
      `step(states, batch, noise) -> (states, metrics)`, all with a leading device axis, as
      `replicate` and `shard_batch` make it; metrics are averaged over devices. States are donated.

    Raises:
      ValueError: fewer than one device, or more than there are; with several processes, not all
        of this one's.
    """
    available = jax.local_devices()
    if not 1 <= n_devices <= len(available):
        raise ValueError(f"n_devices must lie in 1..{len(available)}, got {n_devices}")
    devices = available[:n_devices]
    if jax.process_count() > 1:
        if n_devices != len(available):
            raise ValueError(
                f"with several processes n_devices must be all {len(available)} of this one, "
                f"got {n_devices}"
            )
        devices = None  # all of all processes
    step = functools.partial(sac_step, config=config, optimizers=optimizers, axis=parallel.AXIS)
    return parallel.map_shards(step, devices=devices, donate_argnums=0)


def rows_of_this_process(batch_size: int) -> slice:
    """Which rows of a global batch this process brings: the processes split it evenly, in order."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def largest_over_processes(values: Sequence[int]) -> list[int]:
    """The largest of each number that the processes of a run bring; all call it at the same time.

    So they decide together: whether one wants to stop, or to save (the largest of flags), and
    whether all are ready (the largest of what is missing).
    """
    if jax.process_count() == 1:
        return list(values)
    copies = np.tile(np.asarray(values, np.int32), (jax.local_device_count(), 1))
    return parallel.unreplicate(_largest()(copies)).tolist()


@functools.cache
def _largest():
    return parallel.map_shards(functools.partial(jax.lax.pmax, axis_name=parallel.AXIS))
