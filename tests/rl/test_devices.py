import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import rl
from tests.rl.problem import ACT, ROWS, batch, config, state

PARALLEL = config(order="parallel")


def noise(i):
    return rl.draw_noise(jax.random.key(i), ROWS, ACT)


@pytest.fixture(scope="module")
def devices():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    return jax.devices()[0], jax.devices()[1]


def test_two_devices_compute_the_parallel_order(devices):
    one = state(PARALLEL)
    dual = rl.dual_init(one, *devices)
    step = jax.jit(rl.sac_step, static_argnums=3)
    for i in range(25):
        one, metrics = step(one, batch(i), noise(i), PARALLEL)
        dual, dual_metrics = rl.dual_step(dual, batch(i), noise(i), PARALLEL)
    chex.assert_trees_all_close(rl.dual_merge(dual), one, atol=1e-6)
    assert set(dual_metrics) == set(metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(dual_metrics[name], value, rtol=1e-5, atol=1e-6)
    for side, device in zip(dual, devices, strict=True):
        assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(side))


def test_without_exchange_each_side_keeps_its_copy(devices):
    start = rl.dual_init(state(PARALLEL), *devices)
    dual, _ = rl.dual_step(start, batch(), noise(0), PARALLEL, exchange=False)
    chex.assert_trees_all_equal(dual.actor_side.critic, start.actor_side.critic)
    chex.assert_trees_all_equal(dual.critic_side.actor, start.critic_side.actor)
    assert not np.allclose(
        dual.critic_side.own.critic["q"]["bias"], start.critic_side.own.critic["q"]["bias"]
    )
    dual, _ = rl.dual_step(dual, batch(1), noise(1), PARALLEL)
    chex.assert_trees_all_equal(
        jax.device_get(dual.actor_side.critic), jax.device_get(dual.critic_side.own.critic)
    )


def test_the_sequential_order_is_refused(devices):
    with pytest.raises(ValueError, match='compute order "parallel", the config says'):
        rl.dual_step(rl.dual_init(state(PARALLEL), *devices), batch(), noise(0), config())


def test_shapes_are_those_of_one_device(devices):
    dual, drawn = rl.dual_init(state(PARALLEL), *devices), noise(0)
    for name in rl.Noise._fields:
        one_row = drawn._replace(**{name: getattr(drawn, name)[:1]})
        with pytest.raises(ValueError, match=rf"noise.{name} has shape \(1, 2\), expected \(12, 2"):
            rl.dual_step(dual, batch(), one_row, PARALLEL)


@pytest.mark.parametrize(
    ("n", "order"), [(1, "sequential"), (2, "sequential"), (4, "sequential"), (4, "parallel")]
)
def test_many_devices_take_the_step_of_one(n, order):
    if len(jax.devices()) < n:
        pytest.skip(f"needs {n} devices")
    cfg = dataclasses.replace(PARALLEL, order=order)
    one = state(cfg)
    many = rl.replicate(one, n)
    spread = rl.make_pmap_step(cfg, n)
    step = jax.jit(rl.sac_step, static_argnums=3)
    for i in range(20):
        one, metrics = step(one, batch(i), noise(i), cfg)
        many, spread_metrics = spread(many, *rl.shard_batch((batch(i), noise(i)), n))
    same = jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), jax.device_get(one))
    chex.assert_trees_all_close(jax.device_get(many), same, atol=1e-5)
    for name, value in metrics.items():
        np.testing.assert_allclose(spread_metrics[name], np.full(n, value), rtol=1e-4, atol=1e-5)


def test_refuses_device_numbers():
    count = len(jax.devices())
    for n in (0, count + 1):
        with pytest.raises(ValueError, match=rf"n_devices must lie in 1\.\.{count}, got {n}"):
            rl.make_pmap_step(PARALLEL, n)
    with pytest.raises(ValueError, match=r"cannot be split over 2 device"):
        rl.shard_batch(batch(rows=3), 2)


def test_checkpoints_are_exact_and_whole(tmp_path):
    tree = {
        "state": state(config()),
        "key": jax.random.key(5),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "count": jnp.int32(7),
    }
    with pytest.raises(FileNotFoundError):
        rl.load_checkpoint(tmp_path / "c", tree)
    rl.save_checkpoint(tmp_path / "c", jax.tree.map(lambda x: x, tree))
    later = tree | {"count": jnp.int32(8)}
    rl.save_checkpoint(tmp_path / "c", later)
    got = rl.load_checkpoint(tmp_path / "c", tree)
    chex.assert_trees_all_equal(
        {k: v for k, v in got.items() if k != "key"},
        {k: v for k, v in later.items() if k != "key"},
    )
    assert jax.random.key_data(got["key"]).tolist() == jax.random.key_data(tree["key"]).tolist()
    assert got["half"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="does not fit"):
        rl.load_checkpoint(tmp_path / "c", {"state": tree["state"]})
