import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import parallel
from jaxlab.runs import restore_checkpoint, save_checkpoint
from tests.two_processes import run_two

ROWS, DIM = 16, 3


def loss(params, batch, key):
    """Masked squared error with noise that belongs to the row, not to the device."""
    noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(key, row)))(batch["row"])
    error = batch["x"] @ params["w"] + params["b"] - batch["y"] + 0.1 * noise
    squared = batch["mask"] * jnp.square(error)
    return squared.sum(), batch["mask"].sum(), {"absolute": (batch["mask"] * abs(error)).sum()}


def problem(seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "x": rng.normal(size=(ROWS, DIM)).astype(np.float32),
        "y": rng.normal(size=ROWS).astype(np.float32),
        # Unequal weights a device: a mean of means would be wrong.
        "mask": (np.arange(ROWS) < 5).astype(np.float32),
        "row": np.arange(ROWS),
    }
    params = {"w": jnp.asarray(rng.normal(size=DIM), jnp.float32), "b": jnp.zeros(())}
    return params, batch


def train(step, tx, steps=3):
    params, batch = problem()
    state = parallel.init_train_state(jax.tree.map(jnp.copy, params), tx)
    for i in range(steps):
        state, metrics = step(state, batch, jax.random.key(i))
    return state, metrics


def reference(steps=3, lr=0.1):
    """Plain gradient descent on the whole batch's masked mean, in one expression."""
    params, batch = problem()

    def mean(params, key):
        total, weight, aux = loss(params, batch, key)
        return total / weight, aux["absolute"] / weight

    for i in range(steps):
        (value, absolute), grads = jax.value_and_grad(mean, has_aux=True)(params, jax.random.key(i))
        params = jax.tree.map(lambda p, g: p - lr * g, params, grads)
    return params, value, absolute, optax.tree.norm(grads)


@pytest.mark.parametrize(
    ("form", "devices", "grad_accum"),
    [("jit", 1, 1), ("jit", 1, 4), ("pmap", 1, 1), ("pmap", 2, 2), ("pmap", 4, 1), ("pmap", 4, 4)],
)
def test_any_split_takes_the_same_steps(form, devices, grad_accum):
    tx = optax.sgd(0.1)
    step = parallel.make_train_step(
        loss, tx, parallel=form, grad_accum=grad_accum, devices=jax.local_devices()[:devices]
    )
    state, metrics = train(step, tx)
    params, value, absolute, norm = reference()
    chex.assert_trees_all_close(jax.device_get(state.params), params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["absolute"], absolute, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    assert metrics["weight"] == 5
    assert state.step == 3


@pytest.mark.parametrize("form", ["jit", "pmap"])
def test_steady_state_does_not_trace_again(form):
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(loss, n=1)
    tx = optax.adam(0.1)
    step = parallel.make_train_step(traced, tx, parallel=form)
    state, _ = train(step, tx, steps=4)
    if form == "pmap":
        assert all(len(leaf.sharding.device_set) == 4 for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("form", ["jit", "pmap"])
def test_state_is_donated(form):
    tx = optax.sgd(0.1)
    step = parallel.make_train_step(loss, tx, parallel=form)
    params, batch = problem()
    state, _ = step(parallel.init_train_state(params, tx), batch, jax.random.key(0))
    old = jax.tree.leaves(state)
    step(state, batch, jax.random.key(1))
    assert all(leaf.is_deleted() for leaf in old)


@pytest.mark.parametrize(("form", "grad_accum"), [("jit", 1), ("jit", 4), ("pmap", 1)])
def test_a_batch_without_weight_changes_nothing(form, grad_accum):
    tx = optax.sgd(0.1)
    step = parallel.make_train_step(loss, tx, parallel=form, grad_accum=grad_accum)
    params, batch = problem()
    batch["mask"][:] = 0
    state, metrics = step(
        parallel.init_train_state(jax.tree.map(jnp.copy, params), tx), batch, jax.random.key(0)
    )
    chex.assert_trees_all_equal(jax.device_get(state.params), jax.device_get(params))
    assert metrics["loss"] == 0
    assert metrics["grad_norm"] == 0


def test_bfloat16_parameters_keep_their_dtype_and_accumulate_in_float32():
    tx = optax.sgd(1.0)

    def total(params, batch, key):
        return (params * batch["x"].astype(jnp.bfloat16)).sum(), batch["x"].size / 256

    # 256 gradients of 1 + 1/128: a bfloat16 sum stops growing at 256.
    batch = {"x": np.full((256, 1), 1 + 1 / 128, np.float32)}
    step = parallel.make_train_step(total, tx, grad_accum=256)
    params = jnp.zeros((), jnp.bfloat16)
    state, _ = step(parallel.init_train_state(params, tx), batch, jax.random.key(0))
    assert state.params.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.params.astype(np.float32), -258, rtol=1e-2)


def test_bfloat16_gradients_are_added_over_devices_in_float32():
    tx = optax.sgd(1.0)

    def total(params, batch, key):
        return (params * batch["x"].astype(jnp.bfloat16)).sum(), batch["weight"].sum()

    # 64 + 65 + 65 + 65 = 259 has a binary digit more than bfloat16: 260 / 7 would become 37.25.
    batch = {"x": np.float32([64, 65, 65, 65]), "weight": np.float32([1, 2, 2, 2])}
    step = parallel.make_train_step(total, tx, parallel="pmap")
    state = parallel.init_train_state(jnp.zeros((), jnp.bfloat16), tx)
    state, _ = step(state, batch, jax.random.key(0))
    assert state.params.dtype == jnp.bfloat16
    assert float(jax.device_get(state.params)) == -259 / 7


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"parallel": "tpu"}, "'tpu'"), ({"grad_accum": 0}, "grad_accum must be >= 1, got 0")],
)
def test_builder_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        parallel.make_train_step(loss, optax.sgd(0.1), **kwargs)


def test_rows_that_do_not_divide_are_refused_with_the_numbers():
    step = parallel.make_train_step(loss, optax.sgd(0.1), parallel="pmap", grad_accum=3)
    params, batch = problem()
    state = parallel.init_train_state(params, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"16 rows.*4 device\(s\) x 3.*multiple of 12"):
        step(state, batch, jax.random.key(0))
    with pytest.raises(ValueError, match="common leading axis"):
        step(state, batch | {"y": np.zeros(3)}, jax.random.key(0))


def test_aux_may_not_take_the_steps_own_names():
    step = parallel.make_train_step(lambda p, b, k: (p, 1, {"loss": p}), optax.sgd(0.1))
    state = parallel.init_train_state(jnp.ones(()), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"\['loss'\] are the step's own"):
        step(state, {"x": np.zeros(2)}, jax.random.key(0))


@pytest.mark.parametrize("n", [None, 1, 2, 4])
def test_replicate_and_back(n):
    tree = {"a": jnp.arange(3.0), "key": jax.random.key(1), "n": 2}
    copies = parallel.replicate(tree, n)
    assert copies["a"].shape == (n or 4, 3)
    assert len(copies["a"].sharding.device_set) == (n or 4)
    back = parallel.unreplicate(copies)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert len(back["a"].sharding.device_set) == 1
    assert jax.random.bits(back["key"]) == jax.random.bits(tree["key"])


def test_shard_batch_splits_rows_in_order():
    x = np.arange(24).reshape(8, 3)
    shards = parallel.shard_batch({"x": x}, 4)["x"]
    np.testing.assert_array_equal(shards, x.reshape(4, 2, 3))
    assert len(shards.sharding.device_set) == 4
    with pytest.raises(ValueError, match="multiple of 3"):
        parallel.shard_batch({"x": x}, 3)
    with pytest.raises(ValueError, match="this process has 4"):
        parallel.replicate(x, 9)


def test_state_resumes_on_another_number_of_devices(tmp_path):
    tx = optax.adam(0.1)
    state, _ = train(parallel.make_train_step(loss, tx, parallel="pmap"), tx)
    kept = jax.device_get(state)
    save_checkpoint(tmp_path, state, step=3)
    like = parallel.init_train_state(problem()[0], tx)
    chex.assert_trees_all_equal(jax.device_get(restore_checkpoint(tmp_path, like)), kept)


def test_start_distributed_does_nothing_alone(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "JAX_COORD", "JAX_NUM", "JAX_PROC")):
            monkeypatch.delenv(name)
    assert parallel.start_distributed() is False
    with pytest.raises(ValueError, match="give all three"):
        parallel.start_distributed("localhost:1", num_processes=2)
    with pytest.raises(ValueError, match="no coordinator_address"):
        parallel.start_distributed(num_processes=2, process_id=1)


_TWO_PROCESSES = """
    import sys
    from jaxlab import parallel
    assert parallel.start_distributed()
    import jax, jax.numpy as jnp, numpy as np, optax
    from jaxlab.runs import Run, restore_checkpoint, save_checkpoint
    sys.path.insert(0, sys.argv[2])
    from test_parallel import loss, problem, reference

    assert (jax.process_count(), jax.local_device_count()) == (2, 2)
    params, batch = problem()
    mine = slice(8 * jax.process_index(), 8 * jax.process_index() + 8)
    local = {name: x[mine] for name, x in batch.items()}
    tx = optax.sgd(0.1)
    step = parallel.make_train_step(loss, tx, parallel="pmap")
    state = parallel.init_train_state(params, tx)
    with Run(sys.argv[1] + "/run", {"a": 1}) as run:
        for i in range(3):
            if i == 2:
                save_checkpoint(run.checkpoint_dir(), state, step=i)
                state = restore_checkpoint(run.checkpoint_dir(), state)
            state, metrics = step(state, local, jax.random.key(i))
            run.log(i, loss=metrics["loss"])
        assert jax.process_index() or len(run.metrics()) == 3
    want, value, _, _ = reference()
    np.testing.assert_allclose(np.asarray(metrics["loss"].addressable_data(0)), value, rtol=1e-5)
    for name in want:
        got = np.asarray(state.params[name].addressable_data(0))
        np.testing.assert_allclose(got, want[name], rtol=1e-5, atol=1e-6)
    print("same numbers")
"""


def test_two_processes_of_two_devices_take_the_same_steps(tmp_path):
    for output in run_two(_TWO_PROCESSES, tmp_path, os.path.dirname(__file__)):
        assert "same numbers" in output


@pytest.mark.parametrize("n", [1, 2, 4])
def test_map_rows_is_vmap_spread_over_devices(n):
    devices = jax.local_devices()[:n]
    rows = {"x": jnp.arange(24.0).reshape(8, 3), "key": jax.random.split(jax.random.key(0), 8)}

    def noisy_sum(row):
        return {"sum": (row["x"] + jax.random.normal(row["key"], (3,))).sum()}

    mapped = parallel.map_rows(noisy_sum, devices=devices)
    got = mapped(parallel.shard_batch(rows, devices=devices))["sum"]
    assert got.shape == (n, 8 // n)
    assert got.sharding.device_set == set(devices)
    np.testing.assert_allclose(got.reshape(-1), jax.vmap(noisy_sum)(rows)["sum"], rtol=1e-6)
