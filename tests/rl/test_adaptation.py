import jax
import pytest

from jaxlab import rl
from jaxlab.rl import adaptation, async_training
from jaxlab.rl.adaptation import SamplerTrials
from jaxlab.rl.host_state import fresh_state, restore_state, ring_spec
from jaxlab.rl.sampler_pool import SamplerPool
from jaxlab.rl.shared_replay import SharedReplay
from tests.rl.test_host import CONFIG, SMALL
from tests.rl.waiting import wait_until


def kept_after(minutes, start, most, sample_hz, update_hz):
    """Numbers of samplers that ran, second by second, on a machine with these rates."""
    trials = SamplerTrials(start, most)
    steps = updates = 0.0
    ran, n = [], start
    for second in range(60 * minutes):
        n = trials.look(float(second), int(steps), int(updates))
        steps += sample_hz(n)
        updates += update_hz(n)
        ran.append(n)
    return ran


def test_goes_up_while_it_gains_and_comes_back():
    ran = kept_after(12, 1, 8, lambda n: 1000 * min(n, 3), lambda n: 100)
    assert max(ran) == 4
    assert ran[-30:].count(3) > 15, "the fourth gains nothing"
    assert ran.count(3) > len(ran) / 2


def test_does_not_starve_the_learner():
    ran = kept_after(10, 1, 8, lambda n: 1000 * n, lambda n: 100 if n < 3 else 60)
    assert ran.count(2) > 5 * ran.count(3) > 0


def test_goes_down_where_fewer_are_faster():
    ran = kept_after(10, 4, 4, lambda n: 1000 / n, lambda n: 100)
    assert ran[0] == 4
    assert ran[-1] == 1
    assert min(ran) == 1


def test_one_at_most_is_never_left():
    assert set(kept_after(5, 1, 1, lambda n: 1000, lambda n: 100)) == {1}


def test_what_a_start_costs_is_not_counted():
    seconds = []

    def slow_to_start(n):
        seconds.append(n)
        # A new sampler brings nothing for the first two seconds.
        return 1000 * min(n, *seconds[-3:])

    ran = kept_after(4, 1, 2, slow_to_start, lambda n: 100)
    assert ran[-1] == 2


def test_a_training_changes_its_samplers(monkeypatch, tmp_path):
    wanted = iter([1] + [2] * 10**6)
    monkeypatch.setattr(adaptation.SamplerTrials, "look", lambda self, *counts: next(wanted))
    monkeypatch.setattr(async_training, "_WATCH_S", 0.0)
    rings = []
    create, resize = SharedReplay.create, SamplerPool.resize

    def recorded(spec):
        rings.append(create(spec))
        return rings[-1]

    def until_all_write(pool, n):
        """A process takes longer to start than these few updates."""
        resize(pool, n)
        wait_until(lambda: (rings[0].written()[:n] > 0).all())

    monkeypatch.setattr(SharedReplay, "create", staticmethod(recorded))
    monkeypatch.setattr(SamplerPool, "resize", until_all_write)
    host = rl.HostConfig(max_samplers=2, max_updates=400, **SMALL | {"max_replay_ratio": 4.0})
    result = rl.train_host(jax.random.key(0), CONFIG, host, tmp_path)
    assert result.updates == 400
    spec = ring_spec(CONFIG, host)
    kept = restore_state(tmp_path, fresh_state(jax.random.key(0), CONFIG, host), spec)
    assert spec.n_writers == 2
    assert (kept.ring["committed"] > 0).all(), "the second sampler wrote, too"


def test_refuses():
    with pytest.raises(ValueError, match="max_samplers must be None or >= n_samplers 2, got 1"):
        rl.HostConfig(n_samplers=2, max_samplers=1)
    host = rl.HostConfig(max_samplers=2, **SMALL)
    with pytest.raises(ValueError, match="a Ray cluster's samplers keep their number"):
        rl.train_host(jax.random.key(0), CONFIG, host, ray_address="local")
