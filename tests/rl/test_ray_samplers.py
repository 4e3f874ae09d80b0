import os
import signal
import time

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.learner import policy_of
from jaxlab.rl.ray_samplers import join_cluster
from tests.rl.test_host import CONFIG, SMALL
from tests.rl.waiting import wait_until

ray = pytest.importorskip("ray", reason="ray is not installed: pip install jaxlab[ray]")

pytestmark = pytest.mark.slow  # a cluster takes its time to start, and gives up after 30 s

POLICY = policy_of(rl.sac_init(jax.random.key(0), CONFIG))


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine with two processors."""
    join_cluster("local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture
def shared():
    with (
        rl.SharedReplay.create(rl.ReplaySpec(8000, 3, 1, 2)) as ring,
        rl.WeightBoard.create(POLICY) as board,
    ):
        board.publish(POLICY)
        yield ring, board


def make_pool(ring, board, **settings):
    defaults = {"address": "local", "n_samplers": 2, "envs_per_sampler": 16, "seed": 3}
    return rl.RaySamplerPool(ring.handle, board.handle, "numpy:pendulum", **defaults | settings)


def sampler_processes():
    """Process numbers of the actors that live."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                name = file.read()
        except OSError:
            continue
        if name.startswith(b"ray::RemoteSampler"):
            found.append(int(number))
    return found


def pushing_right():
    """A policy whose every action is 1."""
    zeros = np.zeros_like(POLICY["mean"]["kernel"])
    heads = {"mean": 20, "log_std": -20}
    return POLICY | {
        name: {"kernel": zeros, "bias": np.full(1, bias, np.float32)}
        for name, bias in heads.items()
    }


def test_actors_fill_every_shard_with_the_newest_policy(cluster, shared):
    ring, board = shared
    with make_pool(ring, board, warmup_steps=4000) as pool:
        pool.start()
        wait_until(lambda: (ring.written() > 0).all(), alive=pool.poll)
        assert (ring.written() % 16 == 0).all()
        assert ring.written().max() >= 1000, "rows come in blocks"
        board.publish(pushing_right())
        seen = ring.written()
        wait_until(lambda: (ring.written() > seen + 8000).all(), alive=pool.poll)
        rows = ring.sample(np.random.default_rng(0), 500)
        assert (rows.action == 1).all()
        np.testing.assert_allclose(np.hypot(rows.obs[:, 0], rows.obs[:, 1]), 1, rtol=1e-4)
        assert (abs(rows.next_obs[:, 2] - rows.obs[:, 2]) < 3).all(), "rows are of one environment"
    written = ring.written()
    time.sleep(0.3)
    np.testing.assert_array_equal(ring.written(), written)


def test_random_actions_until_the_warm_up_is_over(cluster, shared):
    ring, board = shared
    board.publish(pushing_right())
    with make_pool(ring, board, warmup_steps=10**9, max_sample_hz=4000.0) as pool:
        pool.start()
        wait_until(lambda: (ring.written() > 0).all(), alive=pool.poll)
    actions = ring.sample(np.random.default_rng(0), 500).action
    assert actions.std() == pytest.approx(3**-0.5, abs=0.05)


def test_an_actor_that_dies_is_replaced(cluster, shared):
    ring, board = shared
    with make_pool(ring, board) as pool:
        pool.start()
        wait_until(lambda: (ring.written() > 0).all(), alive=pool.poll)
        os.kill(sampler_processes()[0], signal.SIGKILL)
        wait_until(lambda: pool.poll() == 1, alive=pool.poll)
        seen = ring.written()
        wait_until(lambda: (ring.written() > seen + 2000).all(), alive=pool.poll)


def test_one_that_keeps_dying_ends_it(cluster, shared):
    ring, board = shared
    with make_pool(ring, board, max_restarts=1, import_module="no_such_module") as pool:
        pool.start()
        with pytest.raises(RuntimeError, match=r"(?s)sampler \d died 2 times.*no_such_module"):
            wait_until(lambda: False, alive=pool.poll)


def test_training_with_samplers_on_a_cluster(cluster, tmp_path):
    host = rl.HostConfig(n_samplers=2, max_updates=40, **SMALL)
    result = rl.train_host(jax.random.key(0), CONFIG, host, tmp_path, ray_address="local")
    assert result.updates == 40
    assert result.env_steps >= 40
    assert result.worker_restarts == 0


def test_refuses(cluster, shared):
    with pytest.raises(ValueError, match=r"n_samplers must lie in 1\.\.2, .* got 3"):
        make_pool(*shared, n_samplers=3)
    host = rl.HostConfig(mode="sync", **SMALL)
    with pytest.raises(ValueError, match="leave out ray_address"):
        rl.train_host(jax.random.key(0), CONFIG, host, ray_address="local")


def test_more_samplers_than_processors_would_wait_for_ever(cluster):
    with (
        rl.SharedReplay.create(rl.ReplaySpec(9000, 3, 1, 3)) as ring,
        rl.WeightBoard.create(POLICY) as board,
        pytest.raises(ValueError, match="n_samplers is 3, and the Ray cluster has 2 processors"),
    ):
        make_pool(ring, board, n_samplers=3)
