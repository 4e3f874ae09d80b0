"""Questions and answers: reading them, splitting them, encoding them as scored tokens."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxlab.checks import check_choice
from jaxlab.unlearn.log_probs import IGNORE_INDEX
from jaxlab.unlearn.types import LMBatch
from jaxlab.user_files import read_json_lines

SUBSET_MODES = ("random", "shortest")


class QA(NamedTuple):
    """A question with its answer, a paraphrase of the answer, and wrong answers."""

    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answer: tuple[str, ...] = ()


def load_qa(path: str | os.PathLike) -> list[QA]:
    """Reads JSON lines with `question` and `answer`, as TOFU has them; blank lines are skipped.

    Fields `paraphrased_answer` (string) and `perturbed_answer` (list of strings) are optional.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line that is no such object, by file, line and field; a file without rows.
    """
    rows = [_as_qa(where, entry) for where, entry in read_json_lines(path)]
    if not rows:
        raise ValueError(f'{path} is empty; it needs lines like {{"question": "", "answer": ""}}')
    return rows


def split_indices(n: int, percent: float) -> tuple[np.ndarray, np.ndarray]:
    """(retain, forget) row numbers, int64: forget is the last `n * percent // 100` rows.

    Raises:
      ValueError: percent outside (0, 100), or no row to forget.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percent must lie in (0, 100), got {percent}")
    count = int(n * percent // 100)
    if count == 0:
        raise ValueError(f"{percent} percent of {n} rows is less than one; raise percent")
    return np.arange(n - count), np.arange(n - count, n)


def encode_qa(
    encode: Callable[[str], Sequence[int]],
    question: str,
    answer: str,
    *,
    max_len: int,
    eos_id: int,
    pad_id: int | None = None,
    question_prefix: str = "Question: ",
    question_suffix: str = "\n",
    answer_prefix: str = "Answer: ",
    ignore_index: int = IGNORE_INDEX,
) -> tuple[np.ndarray, np.ndarray]:
    """One row of (tokens, labels), each `[max_len]` int32: prompt, answer, end of text, padding.

    The answer and one end-of-text are scored, prompt and padding are not, although padding may be
    the same id. What does not fit is cut from the answer's end, and with it the end-of-text.

    Args:
      encode: text to token ids, without special tokens of its own.
      question, answer: texts. The prompt is question_prefix + question + question_suffix +
        answer_prefix, encoded on its own.
      max_len: T.
      eos_id: end-of-text.
      pad_id: padding; `eos_id` by default.
      ignore_index: label of what is not scored.

    Raises:
      ValueError: a prompt that leaves no room for an answer.
    """
    prompt = list(encode(question_prefix + question + question_suffix + answer_prefix))
    if len(prompt) >= max_len:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens, max_len is {max_len}: raise max_len or shorten "
            f"the question {question[:60]!r}"
        )
    scored = [*encode(answer), eos_id][: max_len - len(prompt)]
    tokens = np.full(max_len, eos_id if pad_id is None else pad_id, np.int32)
    labels = np.full(max_len, ignore_index, np.int32)
    end = len(prompt) + len(scored)
    tokens[: len(prompt)], tokens[len(prompt) : end] = prompt, scored
    labels[len(prompt) : end] = scored
    return tokens, labels


def stack_rows(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> LMBatch:
    """Rows of `encode_qa` as one batch `[N, T]`.

    Raises:
      ValueError: no rows.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("there are no rows to stack")
    tokens, labels = zip(*rows, strict=True)
    return LMBatch(np.stack(tokens), np.stack(labels))


def relearn_subset(
    key: jax.Array, lengths: ArrayLike, *, fraction: float = 0.2, mode: str = "random"
) -> np.ndarray:
    """Row numbers that a relearning attack trains on, ascending int64.

    Args:
      key: for `random`.
      lengths: `[N]` answer lengths, in tokens.
      fraction: share of the rows, in (0, 1]; at least one row is taken.
      mode: `random`, or `shortest` answers (of equal ones the first).

    Raises:
      ValueError: fraction outside (0, 1], unknown mode, or no rows.
    """
    check_choice("mode", mode, SUBSET_MODES)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    lengths = np.asarray(lengths)
    if lengths.size == 0:
        raise ValueError("lengths is empty; give the length of every row")
    count = max(1, int(lengths.size * fraction))
    if mode == "random":
        order = np.asarray(jax.random.permutation(key, lengths.size))
    else:
        order = np.argsort(lengths, kind="stable")
    return np.sort(order[:count]).astype(np.int64)


def _as_qa(where: str, entry: Any) -> QA:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object with question and answer, got {entry!r:.60}")
    for field in ("question", "answer"):
        if not isinstance(entry.get(field), str):
            raise ValueError(f"{where} needs the field {field!r}, a string; it has {sorted(entry)}")
    paraphrase = entry.get("paraphrased_answer")
    if not isinstance(paraphrase, str | None):
        raise ValueError(f"{where}: field 'paraphrased_answer' must be a string")
    wrong = entry.get("perturbed_answer") or ()
    if not isinstance(wrong, list | tuple) or not all(isinstance(text, str) for text in wrong):
        raise ValueError(f"{where}: field 'perturbed_answer' must be a list of strings")
    return QA(entry["question"], entry["answer"], paraphrase, tuple(wrong))
