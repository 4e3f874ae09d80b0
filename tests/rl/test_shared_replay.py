import dataclasses
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.shared_replay import SharedReplay
from tests.rl.ring_writer import row, write_for_ever
from tests.rl.waiting import wait_until

SPEC = rl.ReplaySpec(capacity=24, obs_dim=2, act_dim=1, n_writers=3)


def drawn(ring, count=2000, seed=0):
    return sorted(set(ring.sample(np.random.default_rng(seed), count).reward.tolist()))


def test_first_in_first_out_by_shard():
    with SharedReplay.create(SPEC) as ring:
        assert ring.size() == 0
        ring.write(0, row(range(3), SPEC))
        ring.write(2, row(range(100, 105), SPEC))
        assert drawn(ring) == [0, 1, 2, 100, 101, 102, 103, 104]
        for first in range(3, 20, 3):
            ring.write(0, row(range(first, first + 3), SPEC))
        assert drawn(ring) == [*range(13, 21), 100, 101, 102, 103, 104]
        assert ring.size() == 13
        np.testing.assert_array_equal(ring.written(), [21, 0, 5])
        ring.write(1, row(range(50, 58), SPEC))  # a whole shard at once
        assert ring.size() == 21


def test_rows_are_drawn_uniformly_over_shards_of_any_fill():
    with SharedReplay.create(SPEC) as ring:
        ring.write(0, row([0.0], SPEC))
        ring.write(1, row(range(1, 9), SPEC))
        values = ring.sample(np.random.default_rng(0), 18_000).reward.astype(int)
        counts = np.bincount(values, minlength=9)
        assert (np.abs(counts - 2000) < 250).all()


def test_samples_are_private_copies_with_their_fields():
    with SharedReplay.create(SPEC) as ring:
        batch = rl.Transition(
            np.float32([[1, 2]]), np.float32([[3]]), np.float32([4]), np.float32([[5, 6]]), [1.0]
        )
        batch = batch._replace(terminated=np.float32([1]))
        ring.write(0, batch)
        got = ring.sample(np.random.default_rng(0), 1)
        for field, want in zip(got, batch, strict=True):
            np.testing.assert_array_equal(field, want)
        got.obs[:] = 99
        np.testing.assert_array_equal(ring.sample(np.random.default_rng(0), 1).obs, batch.obs)


def test_attached_rings_share_and_handles_are_picklable():
    with SharedReplay.create(SPEC) as ring:
        other = SharedReplay.attach(pickle.loads(pickle.dumps(ring.handle)))
        other.write(1, row([7.0], SPEC))
        assert drawn(ring) == [7.0]
        assert other.spec == SPEC
        other.close()
    with pytest.raises(FileNotFoundError):
        SharedReplay.attach(ring.handle)


def test_a_writer_killed_in_the_middle_leaves_nothing_torn():
    with SharedReplay.create(SPEC) as ring:
        ring.write(0, row(range(8), SPEC))
        ring._reserved[0] += 5  # reserved and perhaps half written, never committed
        assert drawn(ring) == [5.0, 6.0, 7.0]
        ring.write(0, row([8.0, 9.0], SPEC))  # its successor, in smaller blocks
        assert drawn(ring) == [5.0, 6.0, 7.0, 8.0, 9.0]
        ring.write(0, row(range(10, 18), SPEC))
        assert drawn(ring) == [float(x) for x in range(10, 18)]


def test_retired_rows_are_not_drawn():
    with SharedReplay.create(SPEC) as ring:
        ring.write(0, row([1.0], SPEC))
        ring.write(1, row([2.0], SPEC))
        ring.retire(0)
        assert drawn(ring) == [2.0]
        ring.write(0, row([3.0], SPEC))
        assert drawn(ring) == [2.0, 3.0]


def test_contents_go_to_another_ring():
    with SharedReplay.create(SPEC) as ring, SharedReplay.create(SPEC) as other:
        ring.write(0, row(range(11, 19), SPEC))
        ring.write(0, row([19.0], SPEC))
        other.load_state_dict(ring.state_dict())
        assert drawn(other) == drawn(ring)
        np.testing.assert_array_equal(other.written(), ring.written())
        other.write(0, row([20.0], SPEC))
        assert drawn(other)[-1] == 20.0
    small = rl.ReplaySpec(12, 2, 1, 3)
    message = r"rows has shape \(24, 7\), this ring's is \(12, 7\)"
    with SharedReplay.create(SPEC) as ring, SharedReplay.create(small) as other:
        contents = ring.state_dict()
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(contents)


def test_writers_at_full_speed_and_killed_tear_nothing():
    spec = rl.ReplaySpec(4096, 3, 1, 2)
    context = multiprocessing.get_context("spawn")
    blocks = (64, 2048)

    def start(writer):
        args = (ring.handle, writer, blocks[writer])
        process = context.Process(target=write_for_ever, args=args, daemon=True)
        process.start()
        return process

    with SharedReplay.create(spec) as ring:
        writers = [start(0), start(1)]
        try:
            wait_until(lambda: ring.written().all())
            rng = np.random.default_rng(0)
            for turn in range(300):
                rows = ring.sample_packed(rng, 1024)
                np.testing.assert_array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape))
                if turn in (100, 200):
                    killed = turn // 100 - 1
                    os.kill(writers[killed].pid, signal.SIGKILL)
                    writers[killed].join()
                    writers[killed] = start(killed)
        finally:
            for writer in writers:
                writer.kill()
                writer.join()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ((0, 2, 1, 1), "capacity must be >= 1, got 0"),
        ((8, 2, 0, 1), "act_dim must be >= 1, got 0"),
        ((10, 2, 1, 3), "capacity must be a multiple of n_writers 3, got 10"),
    ],
)
def test_refuses_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        rl.ReplaySpec(*spec)


def test_refuses_calls():
    with SharedReplay.create(SPEC) as ring:
        with pytest.raises(ValueError, match="the ring is empty"):
            ring.sample(np.random.default_rng(0), 3)
        with pytest.raises(ValueError, match=r"writer_id must lie in 0\.\.2, got 3"):
            ring.write(3, row([1.0], SPEC))
        with pytest.raises(ValueError, match="9 rows do not fit into a shard of 8"):
            ring.write(0, row(range(9), SPEC))
        with pytest.raises(ValueError, match=r"batch.obs has shape \(1, 3\), expected \(1, 2\)"):
            ring.write(0, row([1.0], dataclasses.replace(SPEC, obs_dim=3)))
        ring.write(0, row([1.0], SPEC))
        with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
            ring.sample(np.random.default_rng(0), 0)
        ring._reserved[0] += 100  # for ever being overwritten
        with pytest.raises(ValueError, match="no valid row appeared"):
            ring.sample(np.random.default_rng(0), 1)


def test_says_how_much_memory_is_missing():
    with pytest.raises(OSError, match=r"bytes of shared memory are needed and .* available"):
        SharedReplay.create(rl.ReplaySpec(10**13, 300, 17))
