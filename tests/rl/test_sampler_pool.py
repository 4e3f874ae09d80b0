import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl import pendulum
from jaxlab.rl.host_policy import explore
from jaxlab.rl.ray_samplers import RemoteSampler
from jaxlab.rl.sampler import action_rng, check_finite, take_step
from jaxlab.rl.vec_env import make_vec_env
from tests.rl import recorded_segments
from tests.rl.waiting import wait_until

CONFIG = rl.SACConfig(3, 1, (8,))


@pytest.fixture
def shared():
    actor = jax.device_get(rl.sac_init(jax.random.key(0), CONFIG).actor)
    with (
        rl.SharedReplay.create(rl.ReplaySpec(4000, 3, 1, 2)) as ring,
        rl.WeightBoard.create(actor) as board,
    ):
        yield ring, board, actor


def test_samplers_fill_their_shards_with_real_transitions(shared):
    ring, board, actor = shared
    board.publish(actor)
    with rl.SamplerPool(
        ring.handle, board.handle, "numpy:pendulum", n_samplers=2, envs_per_sampler=5
    ) as pool:
        pool.start()
        assert len(set(pool.pids())) == 2
        wait_until(lambda: (ring.written() > 2000).all())
        assert pool.poll() == 0
    batch = ring.sample(np.random.default_rng(0), 200)
    theta = np.arctan2(batch.obs[:, 1], batch.obs[:, 0])
    theta, speed, reward = pendulum.advance(np, theta, batch.obs[:, 2], batch.action[:, 0])
    np.testing.assert_allclose(reward, batch.reward, atol=1e-3)
    np.testing.assert_allclose(pendulum.observe(np, theta, speed), batch.next_obs, atol=1e-4)
    assert (batch.terminated == 0).all()
    # Those of a policy, no longer uniform ones.
    mean, log_std = rl.numpy_actor(actor, batch.obs)
    action = np.clip(batch.action, -0.999999, 0.999999)
    z = (np.arctanh(action) - mean) / np.exp(log_std)
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.2


def test_a_killed_sampler_is_replaced_and_then_missed(shared):
    ring, board, _ = shared
    with rl.SamplerPool(
        ring.handle,
        board.handle,
        "numpy:pendulum",
        n_samplers=1,
        envs_per_sampler=4,
        max_restarts=1,
    ) as pool:
        pool.start()
        first = pool.pids()
        wait_until(lambda: ring.written()[0])
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: pool.poll() == 1)
        assert pool.pids() != first
        written = ring.written()[0]
        wait_until(lambda: ring.written()[0] > written)
        os.kill(pool.pids()[0], signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"sampler 0 died 2 times, .*exit code -9"):
            wait_until(lambda: pool.poll() > 1)


def test_the_error_of_a_sampler_reaches_the_parent(shared):
    ring, board, _ = shared
    with rl.SamplerPool(
        ring.handle,
        board.handle,
        "numpy:nothing",
        n_samplers=1,
        envs_per_sampler=4,
        max_restarts=0,
    ) as pool:
        pool.start()
        with pytest.raises(RuntimeError, match="env_id must be numpy:pendulum or gym:ID"):
            wait_until(lambda: pool.poll() > 0)


def test_a_sampler_that_prints_goes_on(shared, tmp_path, monkeypatch):
    ring, board, _ = shared
    # More than a pipe holds.
    (tmp_path / "printing_envs.py").write_text("for _ in range(3000): print('x' * 99)\n")
    (tmp_path / "failing_envs.py").write_text("import printing_envs\nraise OSError('no licence')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    settings = {"n_samplers": 1, "envs_per_sampler": 4, "max_restarts": 0}

    def pool(module):
        return rl.SamplerPool(
            ring.handle, board.handle, "numpy:pendulum", import_module=module, **settings
        )

    with pool("printing_envs") as printing:
        printing.start()
        wait_until(lambda: ring.written()[0], alive=printing.poll)
    with pool("failing_envs") as failing:
        failing.start()
        with pytest.raises(RuntimeError, match="OSError: no licence"):
            wait_until(lambda: failing.poll() > 0)


def test_resizing(shared):
    ring, board, _ = shared
    with rl.SamplerPool(
        ring.handle, board.handle, "numpy:pendulum", n_samplers=2, envs_per_sampler=4
    ) as pool:
        pool.start()
        wait_until(lambda: ring.written().all())
        pool.resize(1)
        assert len(pool.pids()) == 1
        low, high = ring._valid()
        assert low[1] >= high[1]  # the retired shard
        pool.resize(2)
        written = ring.written()[1]
        wait_until(lambda: ring.written()[1] > written)
        for n in (0, 3):
            with pytest.raises(ValueError, match=rf"n_samplers must lie in 1\.\.2, .*got {n}"):
                pool.resize(n)


def test_actions_and_environments_draw_from_different_streams():
    def words(rng):
        return rng.bit_generator.seed_seq.generate_state(4).tolist()

    env = rl.make_vec_env("numpy:pendulum", 2, 7)
    streams = [words(env._rng), *(words(action_rng(7, slot)) for slot in range(2))]
    assert len({tuple(x) for x in streams}) == 3
    remote = RemoteSampler("numpy:pendulum", 2, 7, None, None, (-20.0, 2.0))
    assert words(remote._rng) != words(remote._env._rng)


def test_exploration_keeps_to_the_policys_range(shared):
    ring, board, actor = shared
    rng, obs = np.random.default_rng(0), np.ones((50, 3), np.float32)
    mean, _ = rl.numpy_actor(actor, obs)
    drawn = np.arctanh(explore(actor, obs, rng, (-3.0, -2.9))) - mean
    assert 0.035 < drawn.std() < 0.08
    board.publish(actor)
    with rl.SamplerPool(
        ring.handle,
        board.handle,
        "numpy:pendulum",
        n_samplers=1,
        envs_per_sampler=5,
        log_std_range=(-20.0, -19.0),
    ) as pool:
        pool.start()
        wait_until(lambda: ring.written()[0] > 1000, alive=pool.poll)
    batch = ring.sample(rng, 100)
    np.testing.assert_allclose(
        batch.action, np.tanh(rl.numpy_actor(actor, batch.obs)[0]), atol=1e-5
    )


def test_the_rate_is_capped(shared):
    ring, board, _ = shared
    with rl.SamplerPool(
        ring.handle,
        board.handle,
        "numpy:pendulum",
        n_samplers=1,
        envs_per_sampler=4,
        max_sample_hz=1000.0,
    ) as pool:
        # A sampler that got no processor for a while catches up: only its whole time counts.
        start = time.monotonic()
        pool.start()
        wait_until(lambda: ring.written()[0] >= 1000)
        assert ring.written()[0] <= 1000 * (time.monotonic() - start) + 8


def test_nothing_is_left_behind(shared, monkeypatch):
    ring, board, _ = shared
    segments = []
    recorded_segments.record(monkeypatch, segments.append)
    pool = rl.SamplerPool(
        ring.handle, board.handle, "numpy:pendulum", n_samplers=2, envs_per_sampler=4
    )
    pool.start()
    pids = pool.pids()
    pool.stop()
    pool.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert segments
    assert not any(map(recorded_segments.exists, segments))


def test_samplers_do_not_import_jax():
    code = "import sys, jaxlab.rl.sampler; assert not {'jax', 'flax', 'optax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_that_are_not_finite_are_named():
    obs, reward = np.zeros((3, 2)), np.zeros(3)
    check_finite(obs, reward, 0)
    reward[1] = np.nan
    with pytest.raises(FloatingPointError, match=r"environment 1 gave .*reward nan at step 7"):
        check_finite(obs, reward, 7)


@pytest.mark.parametrize("when", ["at the start", "where an episode ended"])
def test_a_start_that_is_not_finite_is_named(when):
    env = make_vec_env("numpy:pendulum", 2)
    obs = env.reset()
    if when == "at the start":
        obs[1] = np.nan
    else:
        env._steps[:] = pendulum.MAX_STEPS - 1
        env._draw = lambda count: np.full((2, count), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match=r"environment \d gave .*nan.* at step 0"):
        take_step(env, obs, None, np.random.default_rng(0), 0)
