import chex
import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.learner import learn_from_rows
from jaxlab.rl.shared_replay import ReplaySpec
from tests.rl.problem import config
from tests.rl.test_host import SMALL

# Sizes of the training below, whose programs are the same.
PARALLEL = rl.SACConfig(3, 1, (8, 8), order="parallel")
ROWS = SMALL["batch_size"]


@pytest.mark.parametrize("mode", ["dual", "pmap", "async"])
def test_every_placement_learns_the_same(mode):
    if len(jax.devices()) < 2 or ROWS % len(jax.devices()):
        pytest.skip("needs several devices")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, ROWS, ReplaySpec(1, 3, 1).width)).astype(np.float32)
    rows[..., -1] = rng.random((4, ROWS)) < 0.3
    key = jax.random.key(4)

    def start():
        return rl.sac_init(jax.random.key(1), PARALLEL)

    want, metrics = learn_from_rows(key, start(), rows, PARALLEL)
    placement = rl.make_placement(PARALLEL, mode, ROWS)
    spread, got_metrics = placement.learn(key, placement.spread(start()), rows)
    got = jax.device_get(placement.gather(spread))
    chex.assert_trees_all_close(got, jax.device_get(want), atol=1e-5)
    chex.assert_trees_all_close(placement.policy(spread), jax.device_get(want.actor), atol=1e-5)
    for name, values in metrics.items():
        np.testing.assert_allclose(got_metrics[name], values, rtol=1e-3, atol=1e-5)
    policy = placement.policy(spread)
    placement.learn(key, spread, rows)  # takes the state's memory over
    chex.assert_trees_all_close(policy, jax.device_get(want.actor), atol=1e-5)


def test_asynchronous_training_on_two_devices():
    host = rl.HostConfig(mode="dual", max_updates=8, **SMALL)
    result = rl.train_host(jax.random.key(0), PARALLEL, host)
    assert (result.updates, int(result.learner.step)) == (8, 8)


def test_refuses(monkeypatch):
    with pytest.raises(ValueError, match='computes order "parallel", the config says \'seq'):
        rl.make_placement(config(), "dual", 12)
    with pytest.raises(ValueError, match="trains SAC, the config is a TD3Config"):
        rl.make_placement(rl.TD3Config(3, 1), "pmap", 12)
    with pytest.raises(ValueError, match=r"multiple of the \d devices, got 13"):
        rl.make_placement(config(), "pmap", 13)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="mode 'pmap' needs two devices or more, there is 1"):
        rl.make_placement(config(), "pmap", 12)
