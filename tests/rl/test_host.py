import json
import os
import signal
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import rl, runs
from jaxlab.rl.host_state import fresh_state, restore_state, ring_spec
from jaxlab.rl.interrupts import deferred_signals
from jaxlab.rl.learner import learn_from_rows
from jaxlab.rl.vec_env import NumpyPendulum
from tests.rl import recorded_segments
from tests.rl.waiting import wait_until

CONFIG = rl.SACConfig(3, 1, (8, 8))
SMALL = {
    "envs_per_sampler": 4,
    "batch_size": 16,
    "updates_per_call": 4,
    "capacity": 2000,
    "warmup_steps": 40,
    "eval_every_s": 0.5,
    "eval_episodes": 2,
    "max_seconds": 3000.0,  # on a busy machine, too, something else ends it
}


class SeenError(Exception):
    """What is waited for has been seen."""


@pytest.fixture
def segments(monkeypatch):
    """Names of the segments created in this test."""
    names = []
    recorded_segments.record(monkeypatch, names.append)
    return names


def all_gone(segments):
    assert segments
    return not any(map(recorded_segments.exists, segments))


def children():
    listing = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    )
    return [line for line in listing.stdout.splitlines() if "jaxlab.rl" in line]


def learner_of(result):
    return jax.device_get(result.learner)


def test_every_policy_that_is_due_is_published_in_turn(monkeypatch):
    published, publish = [], rl.WeightBoard.publish

    def record(board, params):
        published.append(params)
        return publish(board, params)

    monkeypatch.setattr(rl.WeightBoard, "publish", record)
    host = rl.HostConfig(max_updates=24, publish_every=2, **SMALL)
    result = rl.train_host(jax.random.key(0), CONFIG, host)
    # Where it starts, and after every second of six calls.
    assert len(published) == 4
    chex.assert_trees_all_equal(published[-1], jax.device_get(result.learner.actor))
    biases = [params["mean"]["bias"].tolist() for params in published]
    assert len(set(map(tuple, biases))) == 4


def test_asynchronous_training(tmp_path, segments):
    host = rl.HostConfig(n_samplers=2, max_updates=400, **SMALL)
    result = rl.train_host(jax.random.key(0), sac_config=CONFIG, host_config=host, workdir=tmp_path)
    assert (result.updates, int(result.learner.step)) == (400, 400)
    assert result.stopped == "max_updates"
    assert result.env_steps >= 40
    assert result.worker_restarts == 0
    last = result.eval_history[-1]
    assert (last.updates, last.env_steps) == (400, result.env_steps)
    assert -2000 < last.mean_return < 0
    assert result.throughput.update_frame_hz == pytest.approx(16 * result.throughput.update_hz)
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(result.eval_history)
    names = "wall_s env_steps updates mean_return sample_hz update_hz update_frame_hz"
    assert set(lines[-1]) == set(names.split())
    assert all_gone(segments)
    assert children() == []

    more = rl.HostConfig(n_samplers=2, max_updates=408, **SMALL)
    resumed = rl.train_host(jax.random.key(0), CONFIG, more, tmp_path)
    assert resumed.updates == 408
    assert resumed.env_steps > result.env_steps
    assert np.isfinite(resumed.learner.actor["mean"]["kernel"]).all()
    again = rl.train_host(jax.random.key(0), CONFIG, more, tmp_path)
    chex.assert_trees_all_equal(learner_of(again), learner_of(resumed))


@pytest.mark.parametrize("algorithm", [CONFIG, rl.TD3Config(3, 1, (8,))])
def test_in_turn_the_same_key_gives_the_same_bits(algorithm):
    host = rl.HostConfig(mode="sync", max_updates=30, **SMALL)
    first, second = (rl.train_host(jax.random.key(1), algorithm, host) for _ in range(2))
    chex.assert_trees_all_equal(learner_of(first), learner_of(second))
    assert first.updates == 30
    assert first.env_steps == second.env_steps == 4 * (9 + 8)
    other = rl.train_host(jax.random.key(2), algorithm, host)
    assert not np.allclose(
        other.learner.actor["mean"]["kernel"], first.learner.actor["mean"]["kernel"]
    )


def test_a_run_that_goes_on_from_a_segment_ends_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxlab.rl.sync_training._SEGMENT_STEPS", 15)
    settings = SMALL | {"checkpoint_every_s": 1e-9}
    host = rl.HostConfig(mode="sync", max_updates=60, **settings)
    whole = rl.train_host(jax.random.key(3), CONFIG, host)

    # Dies in the second segment, after the first one's checkpoint.
    from jaxlab.rl import sync_training

    learn, calls = sync_training.learn_from_rows, []

    def die(*args):
        calls.append(args)
        if len(calls) == 9:
            raise MemoryError("killed")
        return learn(*args)

    monkeypatch.setattr(sync_training, "learn_from_rows", die)
    with pytest.raises(MemoryError):
        rl.train_host(jax.random.key(3), CONFIG, host, tmp_path)
    monkeypatch.setattr(sync_training, "learn_from_rows", learn)
    resumed = rl.train_host(jax.random.key(3), CONFIG, host, tmp_path)
    assert resumed.env_steps == whole.env_steps
    chex.assert_trees_all_equal(learner_of(resumed), learner_of(whole))


def test_samplers_are_told_the_policys_range(monkeypatch):
    from jaxlab.rl import sync_training

    seen = []

    def pool(*args, log_std_range, **settings):
        seen.append(log_std_range)
        raise SeenError

    def step(env, obs, params, rng, step, log_std_range):
        seen.append(log_std_range)
        words = [x.bit_generator.seed_seq.generate_state(4).tolist() for x in (rng, env._rng)]
        assert words[0] != words[1], "actions are not drawn as the starts are"
        raise SeenError

    monkeypatch.setattr("jaxlab.rl.async_training.SamplerPool", pool)
    monkeypatch.setattr(sync_training, "take_step", step)
    narrow = rl.SACConfig(3, 1, (8, 8), log_std_min=-3.0, log_std_max=-1.0)
    for mode, config in (("async", narrow), ("sync", narrow), ("sync", rl.TD3Config(3, 1, (8,)))):
        with pytest.raises(SeenError):
            rl.train_host(jax.random.key(0), config, rl.HostConfig(mode=mode, **SMALL))
    assert seen == [(-3.0, -1.0), (-3.0, -1.0), (-20.0, 2.0)]


def test_losses_that_are_not_finite_end_it(monkeypatch):
    from jaxlab.rl import sync_training

    def broken(key, state, rows, config):
        return state, {"critic_loss": jnp.array([1.0, 2.0, jnp.nan, 3.0])}

    monkeypatch.setattr(sync_training, "learn_from_rows", broken)
    with pytest.raises(
        FloatingPointError, match="is nan at update 3; there is no earlier checkpoint"
    ):
        rl.train_host(jax.random.key(0), CONFIG, rl.HostConfig(mode="sync", **SMALL))


def test_a_checkpoint_never_holds_a_learner_with_losses_that_are_not_finite(tmp_path, monkeypatch):
    calls = []

    def broken(*args):
        state, metrics = learn_from_rows(*args)
        calls.append(len(calls))
        if len(calls) == 3:
            metrics = metrics | {"critic_loss": jnp.array([1.0, 2.0, jnp.nan, 3.0])}
            state = state._replace(actor=jax.tree.map(lambda x: x * jnp.nan, state.actor))
        return state, metrics

    monkeypatch.setattr("jaxlab.rl.placement.learn_from_rows", broken)
    key, host = jax.random.key(0), rl.HostConfig(**SMALL | {"checkpoint_every_s": 1e-9})
    message = (
        rf"critic_loss is nan at update 11; the last good checkpoint is {tmp_path}/checkpoint/"
    )
    with pytest.raises(FloatingPointError, match=message):
        rl.train_host(key, CONFIG, host, tmp_path)
    kept = restore_state(tmp_path, fresh_state(key, CONFIG, host), ring_spec(CONFIG, host))
    assert kept.updates == 8
    chex.assert_tree_all_finite(kept.learner.actor)


def test_the_learner_waits_for_the_samplers():
    host = rl.HostConfig(mode="sync", max_updates=20, max_replay_ratio=2.0, **SMALL)
    result = rl.train_host(jax.random.key(0), CONFIG, host)
    assert 16 * result.updates <= 2 * result.env_steps + 4 * 16


def test_a_learner_that_waits_has_published_its_policy(monkeypatch):
    """The samplers whose rows it waits for are to use it."""
    events, publish = [], rl.WeightBoard.publish

    def learn(*args):
        events.append("learn")
        return learn_from_rows(*args)

    def record(board, params):
        events.append("publish")
        return publish(board, params)

    def wait(host, env_steps, updates):
        """Once after every call."""
        waits = updates > 0 and events[-1] != "wait"
        events.append("wait")
        return waits

    monkeypatch.setattr("jaxlab.rl.placement.learn_from_rows", learn)
    monkeypatch.setattr(rl.WeightBoard, "publish", record)
    monkeypatch.setattr("jaxlab.rl.async_training.must_wait", wait)
    rl.train_host(jax.random.key(0), CONFIG, rl.HostConfig(max_updates=12, **SMALL))
    calls = [event for event in events if event != "wait"]
    assert calls == ["publish", *3 * ("learn", "publish")]


def test_in_turn_evaluations_do_not_wait_for_a_whole_segment(monkeypatch):
    """The clock runs on from one segment to the next, however short they are."""
    monkeypatch.setattr("jaxlab.rl.sync_training._SEGMENT_STEPS", 1)
    monkeypatch.setattr(NumpyPendulum, "max_steps", None)
    lines = []

    def look(line):
        lines.append(line)
        if len(lines) == 3:
            raise SeenError

    host = rl.HostConfig(mode="sync", **SMALL | {"eval_every_s": 0.05, "max_seconds": 60.0})
    with pytest.raises(SeenError):
        rl.train_host(jax.random.key(0), CONFIG, host, on_eval=look)


def test_in_turn_whole_episodes_are_seen(monkeypatch):
    """Of environments whose episodes are longer than a segment."""
    advance = NumpyPendulum.step

    def step(self, action):
        out = advance(self, action)
        # Those that fill the ring (an evaluation has 2); the 200th step ends an episode.
        if self.n_envs == 4 and self._steps.max() == 199:
            raise SeenError
        return out

    monkeypatch.setattr(NumpyPendulum, "step", step)
    monkeypatch.setattr("jaxlab.rl.sync_training._SEGMENT_STEPS", 20)
    waiting = SMALL | {"warmup_steps": 10**6, "capacity": 10**6, "max_seconds": 60.0}
    with pytest.raises(SeenError):
        rl.train_host(jax.random.key(0), CONFIG, rl.HostConfig(mode="sync", **waiting))


def test_time_and_goal_end_it():
    timed = SMALL | {"max_seconds": 0.2, "warmup_steps": 10**6, "capacity": 10**6}
    result = rl.train_host(jax.random.key(0), CONFIG, rl.HostConfig(mode="sync", **timed))
    assert (result.stopped, result.updates) == ("max_seconds", 0)
    assert len(result.eval_history) == 1
    easy = SMALL | {"eval_every_s": 1e-3}
    host = rl.HostConfig(mode="sync", target_return=-5000.0, **easy)
    assert rl.train_host(jax.random.key(0), CONFIG, host).stopped == "target_return"


def test_a_run_is_fitted_to_the_machine(segments, monkeypatch):
    monkeypatch.setattr("jaxlab.rl.autotuning._MOST_UPDATES", 4)  # a program for each number
    host = rl.HostConfig(**SMALL)
    fitted, log = rl.autotune(CONFIG, host, batch_sizes=(8, 16), samplers=(1, 2), seconds=0.1)
    assert fitted.batch_size in (8, 16)
    assert fitted.n_samplers in (1, 2)
    assert fitted.updates_per_call >= 1
    assert set(log["samplers"]["sample_hz_and_update_hz"]) == {1, 2}
    assert fitted.env_id == host.env_id
    assert all_gone(segments)
    assert children() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_process_and_no_memory_behind(tmp_path, number):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import signal

        signal.signal(signal.SIGINT, signal.default_int_handler)
        import jax
        import pytest
        from jaxlab import rl
        from jaxlab.runs import enable_compilation_cache
        from tests.rl import recorded_segments
        from tests.rl.test_host import CONFIG, SMALL

        enable_compilation_cache()
        names = open("segments.txt", "a", buffering=1)
        patch = pytest.MonkeyPatch()
        recorded_segments.record(patch, lambda name: print(name, file=names))
        host = rl.HostConfig(**SMALL | {"eval_every_s": 0.2})
        rl.train_host(jax.random.key(0), CONFIG, host, "out")
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    log = tmp_path / "out" / "metrics.jsonl"

    def learns():
        return log.exists() and '"updates": 0,' not in log.read_text().splitlines()[-1]

    def runs_on():
        assert process.poll() is None, process.stderr.read().decode()

    try:
        wait_until(learns, alive=runs_on)
        process.send_signal(number)
        process.wait(timeout=100)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    assert all_gone((tmp_path / "segments.txt").read_text().split())
    assert runs.latest_step(tmp_path / "out" / "checkpoint") is not None


@pytest.fixture
def sigint_heeded():
    """What a shell starts in the background ignores the signal, and so would the tests."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("sigint_heeded")
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_run_that_a_signal_ended_goes_on(tmp_path, monkeypatch, mode):
    monkeypatch.setattr("jaxlab.rl.sync_training._SEGMENT_STEPS", 15)
    host = rl.HostConfig(mode=mode, max_updates=200, **SMALL)
    placement = "placement" if mode == "async" else "sync_training"
    where, calls = f"jaxlab.rl.{placement}.learn_from_rows", []

    def interrupted(*args):
        result = learn_from_rows(*args)  # its argument's buffers are gone from here on
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        rl.train_host(jax.random.key(4), CONFIG, host, tmp_path)
    monkeypatch.setattr(where, learn_from_rows)
    assert runs.latest_step(tmp_path / "checkpoint") is not None
    resumed = rl.train_host(jax.random.key(4), CONFIG, host, tmp_path)
    assert resumed.updates == 200
    if mode == "sync":
        whole = rl.train_host(jax.random.key(4), CONFIG, host)
        chex.assert_trees_all_equal(learner_of(resumed), learner_of(whole))


@pytest.mark.usefixtures("sigint_heeded")
def test_a_second_signal_does_not_wait():
    def signalled():
        with deferred_signals() as came:
            assert not came()
            signal.raise_signal(signal.SIGINT)
            assert came()
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("went on")

    with pytest.raises(SystemExit) as end:
        signalled()
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_samplers": 0}, "n_samplers must be >= 1, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be positive, got 0.0"),
        ({"max_updates": 0}, "max_updates must be positive or None, got 0"),
        ({"mode": "threads"}, "mode must be one of async, sync, dual, pmap, got 'threads'"),
        ({"capacity": 8}, "capacity must hold a step of every environment, got 8"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        rl.HostConfig(**settings)


def test_refuses_other_sizes_and_algorithms():
    host = rl.HostConfig(**SMALL)
    with pytest.raises(ValueError, match=r"config\.obs_dim is 4, numpy:pendulum has 3"):
        rl.train_host(jax.random.key(0), rl.SACConfig(4, 1), host)
    with pytest.raises(TypeError, match="must be a SACConfig or a TD3Config, got Settings"):
        rl.train_host(jax.random.key(0), type("Settings", (), {"obs_dim": 3, "act_dim": 1})(), host)
