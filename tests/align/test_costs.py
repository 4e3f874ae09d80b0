import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import align, lm
from jaxlab.align import PlannedRound
from tests.align.models import causal

CFG, _ = causal()


def test_cache_bytes_are_those_of_the_cache():
    for dtype in (jnp.float32, jnp.bfloat16):
        cache = lm.init_cache(CFG, 3, 7, dtype)
        assert align.kv_bytes_per_token(CFG, dtype) * 21 == cache.k.nbytes + cache.v.nbytes
    assert align.token_capacity(CFG, 10**6) == 10**6 // align.kv_bytes_per_token(CFG)


def test_eight_billion_parameters_take_128_kib_a_token():
    llama = lm.LMConfig(128256, 4096, 32, 32, 8, 128, 14336, 8192)
    assert align.kv_bytes_per_token(llama) == 131072


def test_slots_by_counting():
    rounds = (PlannedRound(4, 4, 0, 2), PlannedRound(1, 2, 2, 3))
    assert align.slots_by_step(rounds, 5).tolist() == [24, 28, 8, 9, 10]
    assert align.peak_slots(rounds, 5) == (28, 28 + 20)
    assert align.peak_slots(rounds[:1], 5) == (28, 28)


def test_flops_by_counting():
    rounds = (PlannedRound(4, 4, 0, 2), PlannedRound(1, 2, 2, 3))
    contexts = [6, 7] * 4 + [8, 9, 10] * 2
    expected = sum(lm.flops_per_token(CFG, context) for context in contexts)
    assert align.generation_flops(CFG, rounds, 5) == pytest.approx(expected)
    contexts = [c for length in (3, 3, 8) for c in range(1, length + 1)]
    expected = sum(lm.flops_per_token(CFG, context) for context in contexts)
    assert align.reward_flops(CFG, [(2, 3), (1, 8)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("alpha", "ratio"), [(0.1, 2.2), (0.2, 1.6), (0.3, 1.2), (0.4, 1.2), (0.5, 1), (0.75, 1)]
)
def test_peak_over_capacity_by_alpha(alpha, ratio):
    cfg = align.SpecRejConfig(510, 1280, alpha=alpha, n_init=256)
    peak, _ = align.peak_slots(align.plan_schedule(2, cfg), 2)
    assert peak / 1280 == pytest.approx(ratio, abs=0.06)


def test_halving_keeps_memory_three_quarters_full():
    cfg = align.SpecRejConfig(62, 64 * 8, n_init=64)
    used = align.slots_by_step(align.plan_schedule(2, cfg), 2)
    assert used.size == 62
    assert 0.7 < used.mean() / 512 < 0.8
    plain = align.slots_by_step((PlannedRound(64, 64, 0, 62),), 2)
    assert plain.mean() / plain.max() == pytest.approx(0.5, abs=0.03)
    assert np.all(np.diff(plain) == 64)
