import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab.lm import Document
from jaxlab.prm.packing import Judged, first_fit, pack_judged, pack_whole


def document(size, fill):
    return Document(np.full(size, fill, np.int32), np.arange(size) % 2 == 0)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_every_document_is_whole_and_there_once(sizes):
    rows = first_fit(sizes, 12)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= 12 for row in rows)
    packed = pack_whole([document(n, i + 1) for i, n in enumerate(sizes)], 12)
    for i, size in enumerate(sizes):
        where = packed["tokens"] == i + 1
        assert where.sum() == size
        assert len(set(packed["segment_ids"][where])) == 1
        np.testing.assert_array_equal(packed["loss_mask"][where], np.arange(size) % 2 == 0)
    assert not packed["loss_mask"][packed["segment_ids"] == 0].any()


def test_steps_keep_their_places():
    judged = [
        Judged(document(6, 1), [1, 4], [2, 5], [1.0, 0.0], is_gold=True),
        Judged(document(5, 2), [3], [4], [1.0], is_gold=False),
    ]
    rows = pack_judged(judged, 12, 4)
    np.testing.assert_array_equal(rows["step_ends"], [[2, 5, 10, -1]])
    np.testing.assert_array_equal(rows["step_labels"], [[1, 0, 1, 0]])
    np.testing.assert_array_equal(rows["step_ids"][0], [-1, 0, 0, -1, 1, 1, -1, -1, -1, 2, 2, -1])
    assert rows["loss_mask"][0, :6].any()
    assert not rows["loss_mask"][0, 6:].any()


@pytest.mark.parametrize(
    ("documents", "message"),
    [([document(9, 1)], "does not fit a row of 8"), ([], "nothing to pack")],
)
def test_what_cannot_be_packed_is_refused(documents, message):
    with pytest.raises(ValueError, match=message):
        pack_whole(documents, 8)


def test_texts_without_the_end_of_a_step_are_refused():
    with pytest.raises(ValueError, match="no valid step in batch"):
        pack_judged([Judged(document(4, 1), [], [], [], is_gold=True)], 8, 2)


def test_more_steps_than_a_row_may_hold_are_refused():
    judged = Judged(document(4, 1), [0, 1, 2], [0, 1, 2], [1.0] * 3, is_gold=True)
    with pytest.raises(ValueError, match="more than max_steps = 2"):
        pack_judged([judged], 8, 2)
