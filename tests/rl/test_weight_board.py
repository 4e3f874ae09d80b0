import multiprocessing
import pickle

import numpy as np
import pytest

from jaxlab.rl.weight_board import WeightBoard
from tests.rl.waiting import DEADLINE_S, wait_until

TEMPLATE = {
    "layer": {"kernel": np.zeros((3, 50), np.float32), "bias": np.zeros(7)},
    "scale": np.float32(0),
}


def filled(value):
    return {
        "layer": {"kernel": np.full((3, 50), value, np.float32), "bias": np.full(7, value, float)},
        "scale": np.float32(value),
    }


def publish_for_ever(handle):
    board = WeightBoard.attach(handle)
    while True:
        board.publish(filled(board.version() + 1))


def values_of(params):
    return {
        float(x)
        for leaf in (params["layer"]["kernel"], params["layer"]["bias"], params["scale"])
        for x in np.ravel(leaf)
    }


def test_the_newest_version_is_read():
    with WeightBoard.create(TEMPLATE) as board:
        assert board.version() == 0
        other = WeightBoard.attach(pickle.loads(pickle.dumps(board.handle)))
        for version in range(1, 11):
            assert board.publish(filled(10 * version)) == version
            got, params = other.read()
            assert (got, values_of(params)) == (version, {10.0 * version})
        assert params["layer"]["bias"].dtype == np.float64
        params["layer"]["kernel"][:] = -1  # a private copy
        assert values_of(other.read()[1]) == {100.0}
        other.publish(filled(5))
        assert board.version() == 11
        other.close()


def test_half_precision_is_published():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    template = {"w": np.arange(3).astype(ml_dtypes.bfloat16)}
    with WeightBoard.create(template) as board:
        other = WeightBoard.attach(pickle.loads(pickle.dumps(board.handle)))
        board.publish(template)
        params = other.read()[1]
        assert params["w"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(params["w"], template["w"])
        other.close()


def test_counts_on():
    with WeightBoard.create(TEMPLATE) as board:
        board.continue_from(41)
        assert board.publish(filled(2)) == 42
        assert board.read()[0] == 42


def test_readers_never_see_half_a_version():
    context = multiprocessing.get_context("spawn")
    with WeightBoard.create(TEMPLATE) as board:
        publisher = context.Process(target=publish_for_ever, args=(board.handle,), daemon=True)
        publisher.start()
        try:
            seen = []
            board.read(timeout=DEADLINE_S)

            def read_again():
                version, params = board.read(timeout=DEADLINE_S)
                assert values_of(params) == {float(version)}
                seen.append(version)
                return len(seen) >= 1000 and seen[-1] > seen[0]

            wait_until(read_again, pause=0)
            assert seen == sorted(seen)
        finally:
            publisher.kill()
            publisher.join()


def test_a_publisher_killed_in_the_middle_is_got_over():
    with WeightBoard.create(TEMPLATE) as board:
        board.publish(filled(1))
        board._sequence[2] = 3  # the second version was being written
        assert board.read()[0] == 1
        assert board.publish(filled(2)) == 2
        assert values_of(board.read()[1]) == {2.0}


def test_times_out():
    message = r"no parameters could be read within 0\.05 s"
    with WeightBoard.create(TEMPLATE) as board, pytest.raises(TimeoutError, match=message):
        board.read(timeout=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("scale"), "parameter scale is missing"),
        (lambda p: p.update(more=np.zeros(1)), "parameter more is not in the template"),
        (
            lambda p: p["layer"].update(bias=np.zeros(8)),
            r"layer/bias is float64 \(8,\), the template's is float64 \(7,\)",
        ),
        (lambda p: p["layer"].update(bias=np.zeros(7, np.float32)), "layer/bias is float32"),
    ],
)
def test_refuses_other_trees(change, message):
    params = filled(1)
    change(params)
    with WeightBoard.create(TEMPLATE) as board:
        with pytest.raises(ValueError, match=message):
            board.publish(params)
        assert board.version() == 0
    with pytest.raises(ValueError, match="the template holds no array"):
        WeightBoard.create({})
