"""Whole documents in rows of equal length, and the steps of each row for a verifier."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlab.lm import Document


class Judged(NamedTuple):
    """A document whose steps have labels.

    Attributes:
      document: ids and, as its loss mask, the tokens of sub-solutions.
      ends: positions of the judged steps' last tokens.
      starts: positions of their first tokens.
      labels: in [0, 1], one for each.
      is_gold: whether the language model is trained on it too.
    """

    document: Document
    starts: Sequence[int]
    ends: Sequence[int]
    labels: Sequence[float]
    is_gold: bool


def pack_whole(documents: Sequence[Document], length: int, pad_id: int = 0) -> dict:
    """Rows of `length` tokens that hold whole documents, each in the first row with room.

    Returns:
      A dict of arrays [R, T]: `tokens` int32, `segment_ids` int32 (1, 2, ... within a row, 0 the
      padding), `loss_mask` bool.

    Raises:
      ValueError: a document longer than a row, or none.
    """
    rows = first_fit([len(d.ids) for d in documents], length)
    shape = (len(rows), length)
    tokens = np.full(shape, pad_id, np.int32)
    segment_ids, loss_mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for r, members in enumerate(rows):
        start = 0
        for number, i in enumerate(members, start=1):
            span = slice(start, start + len(documents[i].ids))
            tokens[r, span], loss_mask[r, span] = documents[i]
            segment_ids[r, span] = number
            start = span.stop
    return {"tokens": tokens, "segment_ids": segment_ids, "loss_mask": loss_mask}


def pack_judged(judged: Sequence[Judged], length: int, max_steps: int) -> dict:
    """`pack_whole` with the steps of each row.

    Returns:
      Beside the arrays of `pack_whole`, whose loss mask is that of gold documents alone:
      `step_ids` [R, T] int32, the step that a token's log-likelihood belongs to, -1 for none;
      `step_ends` [R, M] int32, -1 for none; `step_labels` [R, M].

    Raises:
      ValueError: as `pack_whole`; no step at all; more than `max_steps` in a row.
    """
    if not any(len(j.labels) for j in judged):
        raise ValueError("no valid step in batch: the texts hold no end of a step")
    arrays = pack_whole([j.document for j in judged], length)
    rows = first_fit([len(j.document.ids) for j in judged], length)
    step_ids = np.full(arrays["tokens"].shape, -1, np.int32)
    step_ends = np.full((len(rows), max_steps), -1, np.int32)
    step_labels = np.zeros((len(rows), max_steps), np.float32)
    for r, members in enumerate(rows):
        start = number = 0
        for i in members:
            j = judged[i]
            size = len(j.document.ids)
            if not j.is_gold:
                arrays["loss_mask"][r, start : start + size] = False
            for first, last, label in zip(j.starts, j.ends, j.labels, strict=True):
                if number == max_steps:
                    raise ValueError(f"a row holds more than max_steps = {max_steps} steps")
                step_ids[r, start + first : start + last + 1] = number
                step_ends[r, number], step_labels[r, number] = start + last, label
                number += 1
            start += size
    return arrays | {"step_ids": step_ids, "step_ends": step_ends, "step_labels": step_labels}


def first_fit(sizes: Sequence[int], length: int, open_rows: int = 8) -> list[list[int]]:
    """Indices of what goes into each row, in order; the last `open_rows` rows are tried.

    Raises:
      ValueError: a size beyond `length`, or no sizes.
    """
    if not sizes:
        raise ValueError("there is nothing to pack")
    if max(sizes) > length:
        raise ValueError(f"a document of {max(sizes)} tokens does not fit a row of {length}")
    rows, free = [], []
    for i, size in enumerate(sizes):
        for r in range(max(0, len(rows) - open_rows), len(rows)):
            if free[r] >= size:
                break
        else:
            rows.append([])
            free.append(length)
            r = len(rows) - 1
        rows[r].append(i)
        free[r] -= size
    return rows
