"""How arrays are spread over devices: the only file that spells `pmap`.

Two forms. `make_train_step` builds a data-parallel step whose state has no device axis and is
replicated over the mesh; `replicate`, `shard_batch` and `map_rows` work with a leading device axis.

A loss is `loss_fn(params, batch, key) -> (sum, weight)` or `(sum, weight, aux)`, with `aux` a dict
of further sums, never means: sums, weights and gradients of sums are added over micro-batches and
devices and divided once, so that any split of a batch gives the same numbers, also where masks are
unequal. A loss that draws random numbers folds each row's global number, which the batch carries,
into `key`.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlab.arrays import as_wide_float
from jaxlab.checks import check_at_least

AXIS = "data"

LossFn = Callable[..., tuple]
Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """What a training step carries.

    Attributes:
      step: `()` int32, optimizer steps taken.
      params: pytree of parameters.
      opt_state: state of the optax transformation.
    """

    step: jax.Array
    params: Any
    opt_state: Any


def init_train_state(params: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    parallel: str = "jit",
    grad_accum: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, Metrics]]:
    """Builds one optimizer step over a global batch.

    Args:
      loss_fn: `(params, batch, key) -> (sum, weight)` or `(sum, weight, aux)`; `aux` is a dict of
        scalar sums under keys other than `loss`, `weight` and `grad_norm`. A batch of weight 0
        gives the loss 0 and gradients of zero.
      tx: optax transformation; it receives the gradient of the mean loss.
      parallel: `"jit"` runs on one device, or on the mesh that the parameters are sharded over;
        `"pmap"` splits the rows of the batch over the local devices.
      grad_accum: number of micro-batches a device goes through before the update.
      devices: for `"pmap"`; all local devices by default.

    Returns:
      `step(state, batch, key) -> (state, metrics)`. The leading axis of every leaf of `batch` is
      split over devices, then over micro-batches; every part gets the same `key`. `state` is
      donated. `metrics` are `loss` (mean), `weight`, `grad_norm` (before any clipping by `tx`)
      and the means of `aux`, as arrays on the device.

    Raises:
      ValueError: unknown `parallel`, `grad_accum` below 1, or (at the first call) rows that
        devices times micro-batches do not divide.
    """
    if parallel not in ("jit", "pmap"):
        raise ValueError(f'parallel must be "jit" or "pmap", got {parallel!r}')
    check_at_least("grad_accum", grad_accum, 1)
    if parallel == "jit":
        update = jax.jit(make_update(loss_fn, tx, grad_accum=grad_accum), donate_argnums=0)
        return _checked(update, shards=1, grad_accum=grad_accum)

    devices = tuple(devices or jax.local_devices())
    update = map_step(
        make_update(loss_fn, tx, grad_accum=grad_accum, axis=AXIS), (0, None), devices=devices
    )

    def step(state: TrainState, batch: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, shard_batch(batch, len(devices), devices=devices), key)

    return _checked(step, shards=len(devices), grad_accum=grad_accum)


def make_update(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    grad_accum: int = 1,
    axis: str | None = None,
) -> Callable[[TrainState, Any, jax.Array | None], tuple[TrainState, Metrics]]:
    """The step of `make_train_step` as a traceable function, for fusing several into one program.

    Args:
      loss_fn, tx, grad_accum: as there.
      axis: name of a mapped axis over which sums are added; None where there is none.
    """

    def summed(params, batch, key):
        total, weight, *aux = loss_fn(params, batch, key)
        sums = jax.tree.map(jnp.asarray, (total, weight, aux[0] if aux else {}))
        return sums[0], sums

    gradient = jax.grad(summed, has_aux=True)
    # Sums of many bfloat16 gradients, over micro-batches or devices, need float32.
    wide = functools.partial(jax.tree.map, as_wide_float)

    def accumulate(params, batch, key):
        if grad_accum == 1:
            return gradient(params, batch, key)
        micro = jax.tree.map(lambda x: x.reshape(grad_accum, -1, *x.shape[1:]), batch)

        def add(sums, part):
            return jax.tree.map(jnp.add, sums, wide(gradient(params, part, key))), None

        first, rest = jax.tree.map(lambda x: x[0], micro), jax.tree.map(lambda x: x[1:], micro)
        return jax.lax.scan(add, wide(gradient(params, first, key)), rest)[0]

    def update(state: TrainState, batch: Any, key: jax.Array | None) -> tuple[TrainState, Metrics]:
        grads, (total, weight, aux) = accumulate(state.params, batch, key)
        if axis is not None:
            sums = wide(grads), wide(total), weight, aux
            grads, total, weight, aux = jax.lax.psum(sums, axis)
        taken = {"loss", "weight", "grad_norm"} & aux.keys()
        if taken:
            raise ValueError(f"aux keys {sorted(taken)} are the step's own; rename them")
        divisor = jnp.where(weight == 0, 1, weight)
        grads = jax.tree.map(lambda g, p: (g / divisor).astype(p.dtype), grads, state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        means = jax.tree.map(lambda x: x / divisor, {"loss": total, **aux})
        metrics = {**means, "weight": weight, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return update


def _checked(step, shards: int, grad_accum: int):
    """Refuses a batch whose rows do not divide, with the numbers, before anything is traced."""
    parts = shards * grad_accum

    @functools.wraps(step)
    def checked(state, batch, key):
        rows = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batch)}
        if len(rows) != 1:
            raise ValueError(f"leaves of a batch need one common leading axis, got {sorted(rows)}")
        (count,) = rows
        if count == 0 or count % parts:
            raise ValueError(
                f"batch of {count} rows cannot be split over {shards} device(s) x {grad_accum} "
                f"micro-batch(es); use a multiple of {parts}"
            )
        return step(state, batch, key)

    return checked


def replicate(tree: Any, n: int | None = None) -> Any:
    """Copies every leaf to `n` local devices, on a new leading axis `[n, ...]`.

    Args:
      tree: pytree of arrays, typed keys included.
      n: number of devices; all local ones by default.

    Raises:
      ValueError: `n` below 1 or above the number of local devices.
    """
    devices = _first_devices(n)
    sharding = NamedSharding(_mesh(devices), P(AXIS))
    return jax.tree.map(
        lambda x: jax.device_put(jnp.broadcast_to(x, (len(devices), *jnp.shape(x))), sharding), tree
    )


def unreplicate(tree: Any) -> Any:
    """The copy on the first local device, without its leading axis and without resharding."""
    return jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)


def shard_batch(
    tree: Any, n: int | None = None, *, devices: Sequence[jax.Device] | None = None
) -> Any:
    """Splits the rows of every leaf over local devices: `[B, ...]` to `[n, B / n, ...]`.

    Args:
      tree: pytree of arrays with one common leading axis.
      n: number of devices; all local ones by default.
      devices: which ones; the first `n` by default.

    Raises:
      ValueError: `B` is not a multiple of `n`, or there are not that many devices.
    """
    devices = tuple(devices or _first_devices(n))
    count = len(devices)

    def split(x):
        if not np.ndim(x) or x.shape[0] % count:
            raise ValueError(
                f"array of shape {np.shape(x)} cannot be split over {count} device(s); its first "
                f"axis must be a multiple of {count}"
            )
        return x.reshape(count, x.shape[0] // count, *x.shape[1:])

    rows = jax.tree.map(split, tree)
    if jax.process_count() > 1:
        return rows  # pmap over several processes places each one's rows itself
    return jax.device_put(rows, NamedSharding(_mesh(devices), P(AXIS)))


def map_rows(
    fn: Callable[..., Any],
    *,
    devices: Sequence[jax.Device] | None = None,
    donate_argnums: int | tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Maps `fn` over rows that `shard_batch` split over devices: pmap, and vmap on each device.

    For work on independent rows (seeds, chains, tasks): nothing is added over them.

    Args:
      fn: a traceable function of one row.
      devices: the same as for `shard_batch`; all local ones by default.
      donate_argnums: arguments of the mapped function whose memory it may take over.

    Returns:
      The function of trees with leaves `[n, B / n, ...]`, which returns such trees.
    """
    return jax.pmap(
        jax.vmap(fn),
        devices=tuple(devices) if devices else None,
        donate_argnums=donate_argnums,
    )


def map_shards(
    fn: Callable[..., Any],
    *,
    devices: Sequence[jax.Device] | None = None,
    donate_argnums: int | tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Maps `fn` over a leading device axis, the axis name `AXIS` bound for its collectives: a pmap.

    For state that `replicate` spread and rows that `shard_batch` split; `fn` sees one device's.
    """
    return jax.pmap(
        fn,
        axis_name=AXIS,
        devices=tuple(devices) if devices else None,
        donate_argnums=donate_argnums,
    )


def map_step(
    fn: Callable[..., tuple[Any, Any]],
    in_axes: tuple[int | None, ...],
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., tuple[Any, Any]]:
    """Maps a step over devices, those of all processes: its state has no device axis.

    Unlike `map_shards`, which takes the state's leading axis apart at every call, leaf by leaf,
    where several processes train together.

    Args:
      fn: (state, ...) to (state, out), both the same on every device; `AXIS` is bound in it.
      in_axes: of its further arguments: 0 for what `shard_batch` split, None for the same
        everywhere.
      devices: of this process; all local ones by default.

    Returns:
      The step. It donates the state.
    """
    devices = tuple(devices or jax.local_devices())
    mapped = jax.pmap(
        fn,
        axis_name=AXIS,
        in_axes=(None, *in_axes),
        out_axes=None,
        donate_argnums=0,
        devices=devices if jax.process_count() == 1 else None,
    )

    def step(state: Any, *arguments: Any) -> tuple[Any, Any]:
        # A donated state that sits on one device of a process with several cannot be reused as
        # the replicated output: the first call places it.
        if not _is_on_mesh(state, devices):
            state = place_on_mesh(state, devices)
        return mapped(state, *arguments)

    return step


def place_on_mesh(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Replicates every leaf over the local devices without a leading axis (sharding `P()`)."""
    return jax.device_put(tree, NamedSharding(_mesh(tuple(devices or jax.local_devices())), P()))


def to_global(tree: Any) -> Any:
    """Turns state that every process holds alike into arrays over all processes' devices.

    `pmap` over several processes returns arrays local to each host, which orbax refuses to save.
    Arrays that span processes already stay as they are.
    """
    sharding = NamedSharding(_mesh(tuple(jax.devices())), P())

    def globalize(x):
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        local = np.asarray(x.addressable_data(0) if isinstance(x, jax.Array) else x)
        return jax.make_array_from_process_local_data(sharding, local, local.shape)

    return jax.tree.map(globalize, tree)


def to_local(tree: Any) -> Any:
    """This process's copy of arrays that `to_global` replicated over all."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def start_distributed(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> bool:
    """Joins this process to the others of a run on several machines.

    Call it before the first use of a device. Arguments win over the environment variables
    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`; under SLURM or MPI with
    more than one task, jax finds all three by itself.

    Args:
      coordinator_address: `host:port` of process 0.
      num_processes: how many processes take part.
      process_id: this one's number, from 0.

    Returns:
      Whether a run of several processes was started; False leaves jax as it was.

    Raises:
      ValueError: an address without the number of processes, or without this one's, or the
        reverse.
    """
    env = os.environ
    address = coordinator_address or env.get("JAX_COORDINATOR_ADDRESS")
    count = num_processes if num_processes is not None else _int(env.get("JAX_NUM_PROCESSES"))
    number = process_id if process_id is not None else _int(env.get("JAX_PROCESS_ID"))
    scheduled = any(
        (_int(env.get(name)) or 1) > 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    )
    if address is None and not scheduled:
        if (count or 1) > 1 or number:
            raise ValueError(
                f"num_processes {count} and process_id {number} given, but no coordinator_address"
            )
        return False
    if address is not None and not scheduled and (count is None or number is None):
        raise ValueError(
            f"coordinator {address} given, but not both num_processes ({count}) and process_id "
            f"({number}); give all three"
        )
    jax.distributed.initialize(address, count, number)
    return True


def _first_devices(n: int | None) -> tuple[jax.Device, ...]:
    local = jax.local_devices()
    count = len(local) if n is None else n
    if not 1 <= count <= len(local):
        raise ValueError(f"n={n} devices asked for, this process has {len(local)}")
    return tuple(local[:count])


@functools.lru_cache(maxsize=32)
def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    # jax.make_mesh would give Explicit axes, which do not mix with pmap's.
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _is_on_mesh(tree: Any, devices: tuple[jax.Device, ...]) -> bool:
    return all(
        isinstance(leaf, jax.Array) and leaf.sharding.device_set == set(devices)
        for leaf in jax.tree.leaves(tree)
    )


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)
