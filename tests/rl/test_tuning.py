import math

import pytest

from jaxlab import rl


def test_stops_when_saturated_and_takes_the_smallest_good_size():
    rates = {64: 10.0, 128: 20.0, 256: 29.0, 512: 30.0, 1024: 90.0}
    got = rl.tune_batch_size(rates.__getitem__, list(rates))
    assert (got.best, got.stopped) == (256, "saturated")
    assert set(got.rates) == {64, 128, 256, 512}
    patient = rl.tune_batch_size(rates.__getitem__, list(rates), patience=2)
    assert (patient.best, patient.stopped) == (1024, "exhausted")


def test_a_cpu_is_slower_at_large_batches():
    rates = {256: 32.0, 1024: 60.0, 4096: 45.0, 8192: 38.0}
    got = rl.tune_batch_size(rates.__getitem__, list(rates), patience=9)
    assert got.best == 1024
    assert got.rates == rates


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        Exception("RESOURCE_EXHAUSTED: Out of memory"),
    ],
)
def test_memory_ends_the_search(error):
    def measure(size):
        if size > 100:
            raise error
        return float(size)

    got = rl.tune_batch_size(measure, [50, 100, 200, 400])
    assert (got.best, got.stopped) == (100, "oom")
    with pytest.raises(RuntimeError, match="not even a batch of 200 fits"):
        rl.tune_batch_size(measure, [200, 400])


def test_other_errors_pass():
    def measure(_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        rl.tune_batch_size(measure, [1])


def test_samplers_that_starve_the_learner_are_out():
    rates = {1: (10.0, 100.0), 2: (19.0, 95.0), 3: (19.5, 85.0), 4: (40.0, 50.0)}
    got = rl.tune_samplers(rates.__getitem__, list(rates))
    assert got.best == 2
    assert got.rates == rates
    assert rl.tune_samplers(rates.__getitem__, list(rates), update_floor=0.4).best == 4


@pytest.mark.parametrize("tune", [rl.tune_batch_size, rl.tune_samplers])
@pytest.mark.parametrize("candidates", [[], [2, 1], [0, 1], [1, 1]])
def test_refuses_candidates(tune, candidates):
    with pytest.raises(ValueError, match="candidates must be positive and ascending"):
        tune(lambda _: 1.0, candidates)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_refuses_rates(rate):
    with pytest.raises(ValueError, match="the rate at 4 must be a positive number"):
        rl.tune_batch_size(lambda _: rate, [4])
    with pytest.raises(ValueError, match="the rate at 4 must be a positive number"):
        rl.tune_samplers(lambda _: (1.0, rate), [4])


def test_rates():
    got = rl.throughput(env_steps=3000, updates=40, batch_size=256, seconds=2.0)
    assert got == (1500.0, 20.0, 5120.0)
    for seconds in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"seconds must be positive, got {seconds}"):
            rl.throughput(1, 1, 1, seconds)
