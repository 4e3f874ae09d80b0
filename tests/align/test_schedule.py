import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import align

HALVING = align.SpecRejConfig(max_new_tokens=510, capacity_tokens=1280, n_init=256)


def test_n_keep_is_the_number_at_or_above_the_quantile():
    rng = np.random.default_rng(0)
    for n in [*range(1, 80), 255, 256, 999, 1000]:
        scores = rng.permutation(n).astype(float)
        for alpha in np.arange(1, 10) / 10:
            cut = np.quantile(scores, alpha)
            # The quantile of ranks is (n - 1) alpha, which rounds just above an integer at times.
            assert align.n_keep(n, alpha) == np.sum(scores >= cut - 1e-6)


@given(st.integers(1, 2000), st.floats(0, 0.999))
def test_n_keep_keeps_at_least_one(n, alpha):
    kept = align.n_keep(n, alpha)
    assert 1 <= kept <= n
    assert align.n_keep(n, 0) == n
    assert n - kept - 1 < (n - 1) * alpha <= n - kept + 1e-6


@pytest.mark.parametrize(
    ("n_init", "ladder"),
    [(1, (1,)), (2, (2, 1)), (5, (5, 3, 2, 1)), (256, (256, 128, 64, 32, 16, 8, 4, 2, 1))],
)
def test_bucket_ladder(n_init, ladder):
    assert align.bucket_ladder(n_init) == ladder


@given(st.integers(1, 5000))
def test_the_ladder_is_short_and_ends_at_one(n_init):
    ladder = align.bucket_ladder(n_init)
    assert ladder[0] == n_init
    assert ladder[-1] == 1
    assert len(ladder) <= math.log2(n_init) + 2


def test_initial_rows():
    assert align.initial_rows(2, HALVING) == 256
    free = align.SpecRejConfig(max_new_tokens=510, capacity_tokens=1280)
    assert align.initial_rows(2, free) == 128  # 2 + 8 slots each
    assert align.initial_rows(2, dataclasses.replace(free, max_new_tokens=3)) == 256
    assert align.initial_rows(2, dataclasses.replace(free, prefix_shared=True)) == 160
    assert align.initial_rows(5000, free) == 1


def test_plan_of_the_documents():
    rounds = align.plan_schedule(2, HALVING)
    assert [r.active for r in rounds] == [256, 128, 64, 32, 16, 8, 4, 2]
    assert [r.new_tokens for r in rounds] == [3, 5, 10, 20, 40, 80, 160, 192]
    assert [r.start_length for r in rounds] == [0, 3, 8, 18, 38, 78, 158, 318]
    assert sum(r.bucket * r.new_tokens for r in rounds) == 4992


@pytest.mark.parametrize(
    ("n_init", "first_segment", "alpha", "tokens"),
    [
        (128, 6, 0.5, 3840),
        (512, 6, 0.5, 15360),
        (512, 6, 0.75, 12288),
        (128, 3, 0.5, 2496),
        (512, 3, 0.75, 7680),
    ],
)
def test_tokens_of_whole_schedules(n_init, first_segment, alpha, tokens):
    cfg = align.SpecRejConfig(510, n_init * (2 + first_segment), alpha=alpha, n_init=n_init)
    assert sum(r.bucket * r.new_tokens for r in align.plan_schedule(2, cfg)) == tokens


def test_fewer_useful_tokens_may_need_more_steps():
    def count(alpha, rows):
        plan = align.plan_schedule(2, dataclasses.replace(HALVING, alpha=alpha))
        return sum(getattr(r, rows) * r.new_tokens for r in plan)

    assert (count(0.4, "active"), count(0.5, "active")) == (4317, 4992)
    computed = [count(alpha, "bucket") for alpha in np.arange(1, 10) / 10]
    assert computed == sorted(computed, reverse=True)


def test_a_rejection_that_misses_the_bucket_goes_token_by_token():
    bucket, new = align.plan_round(231, 3, 2, HALVING)
    assert (bucket, new) == (256, 1)
    assert align.plan_round(128, 3, 2, HALVING) == (128, 5)
    assert align.plan_round(2, 500, 2, HALVING) == (2, 10)


@given(
    st.integers(1, 64), st.integers(1, 100), st.integers(1, 20), st.sampled_from((0.1, 0.5, 0.75))
)
def test_schedules_end_and_stay_within_memory(n_init, max_new, prompt_len, alpha):
    cfg = align.SpecRejConfig(
        max_new_tokens=max_new,
        capacity_tokens=n_init * (prompt_len + 4),
        n_init=n_init,
        alpha=alpha,
        min_segment=2,
    )
    rounds = align.plan_schedule(prompt_len, cfg)
    assert rounds[-1].start_length + rounds[-1].new_tokens == max_new
    for now, then in itertools.pairwise(rounds):
        assert then.active == align.n_keep(now.active, alpha)
        assert then.start_length == now.start_length + now.new_tokens
    for r in rounds:
        used = r.bucket * (prompt_len + r.start_length + r.new_tokens)
        assert used <= cfg.capacity_tokens or r.new_tokens == min(2, max_new - r.start_length)
        assert r.bucket in align.bucket_ladder(n_init)
        assert r.bucket >= r.active


def test_eos_ids_may_be_one_number():
    assert dataclasses.replace(HALVING, eos_ids=3).eos_ids == (3,)
    assert dataclasses.replace(HALVING, eos_ids=[3, np.int64(4)]).eos_ids == (3, 4)
    assert hash(HALVING) == hash(dataclasses.replace(HALVING))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -0.1}, "alpha must lie in"),
        ({"alpha": 1.0}, "alpha must lie in"),
        ({"alpha": float("nan")}, "alpha must lie in"),
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer >= 1, got 0"),
        ({"capacity_tokens": -1}, "capacity_tokens must be"),
        ({"n_init": 0}, "n_init must be"),
        ({"first_segment": 0}, "first_segment must be"),
        ({"min_segment": 0}, "min_segment must be"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be an integer >= 1, got 2.5"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HALVING, **change)


def test_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="alpha 0 rejects nothing"):
        align.plan_schedule(2, dataclasses.replace(HALVING, alpha=0.0))
    with pytest.raises(ValueError, match="alpha 0 rejects nothing"):
        align.plan_schedule(2, dataclasses.replace(HALVING, alpha=0.0, capacity_tokens=700))
    with pytest.raises(ValueError, match="capacity_tokens 700 cannot hold 256 rows"):
        align.plan_schedule(2, dataclasses.replace(HALVING, capacity_tokens=700))
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        align.n_keep(0, 0.5)
    with pytest.raises(ValueError, match="alpha must lie"):
        align.n_keep(4, 1.0)
    with pytest.raises(ValueError, match="n_init must be >= 1"):
        align.bucket_ladder(0)
    with pytest.raises(ValueError, match="active must be from 1 to 256 rows, got 0"):
        align.plan_round(0, 0, 2, HALVING)
