"""MUSE: verbatim memory, knowledge memory, and the user's own folder of texts.

The texts of MUSE are under copyright and not part of this package. Host functions.

Source: Shi et al., "MUSE: Machine Unlearning Six-Way Evaluation", arXiv 2407.06460.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.checks import check_at_least
from jaxlab.unlearn.data import QA
from jaxlab.unlearn.rouge import rouge_l
from jaxlab.unlearn.types import LMBatch
from jaxlab.user_files import read_json, read_text

# AUC of forget against hold-out under the retrained model, Min-40%; constants of MUSE's code.
RETRAINED_AUC = {"news": 0.4772, "books": 0.5393}
_ANSWER_ENDS = ("\n\n", "\nQuestion", "Question:")


class MuseCorpus(NamedTuple):
    """One corpus.

    Attributes:
      raw: training texts under `forget`, `retain1`, `retain2`, `holdout`.
      verbmem: pairs of a prompt and its true continuation.
      knowmem: questions under `forget`, `retain`.
      knowmem_icl: examples that stand before each question, under the same names.
      privleak: texts under `forget`, `retain`, `holdout`.
    """

    raw: dict[str, str]
    verbmem: list[tuple[str, str]]
    knowmem: dict[str, list[QA]]
    knowmem_icl: dict[str, list[QA]]
    privleak: dict[str, list[str]]


def load_muse(folder: str | os.PathLike) -> MuseCorpus:
    """Reads a MUSE folder.

    It holds `raw/{forget,retain1,retain2,holdout}.txt`, `verbmem/forget.json` (`[{prompt, gt}]`),
    `knowmem/{forget,retain}_qa.json` and `*_qa_icl.json` (`[{question, answer}]`), and
    `privleak/{forget,retain,holdout}.json` (lists of texts).

    Raises:
      FileNotFoundError: a file that is missing, by its path.
      ValueError: a file of another form.
    """
    folder = Path(folder)

    def qa(name: str) -> list[QA]:
        path = folder / "knowmem" / f"{name}.json"
        return [QA(*row) for row in _read_fields(path, ("question", "answer"))]

    return MuseCorpus(
        {
            name: read_text(folder / "raw" / f"{name}.txt")
            for name in ("forget", "retain1", "retain2", "holdout")
        },
        _read_fields(folder / "verbmem" / "forget.json", ("prompt", "gt")),
        {name: qa(f"{name}_qa") for name in ("forget", "retain")},
        {name: qa(f"{name}_qa_icl") for name in ("forget", "retain")},
        {
            name: _read_texts(folder / "privleak" / f"{name}.json")
            for name in ("forget", "retain", "holdout")
        },
    )


def chunk_text(
    encode: Callable[[str], Sequence[int]], text: str, *, max_len: int, bos_id: int | None = None
) -> LMBatch:
    """Rows `[N, max_len]` of a text, every token scored; the last is filled from the beginning.

    Args:
      encode: text to token ids.
      text: at least one token of it.
      max_len: T, the begin-of-text that opens each row included.
      bos_id: begin-of-text, or None for none.

    Raises:
      ValueError: a text without tokens, or rows of less than two.
    """
    check_at_least("max_len", max_len, 2)
    ids = np.asarray(encode(text), np.int32)
    if ids.size == 0:
        raise ValueError("the text has no tokens")
    width = max_len - (bos_id is not None)
    rows = np.resize(ids, (-(-ids.size // width), width))
    if bos_id is not None:
        rows = np.pad(rows, ((0, 0), (1, 0)), constant_values=bos_id)
    return LMBatch(rows, rows.copy())


def verbatim_memory(continuations: Sequence[str], generations: Sequence[str]) -> float:
    """100 times the mean ROUGE-L F1, without stems, of generated against true continuations.

    Raises:
      ValueError: none, or not as many of the one as of the other.
    """
    return _mean_f1(continuations, generations)


def knowledge_memory(answers: Sequence[str], generations: Sequence[str]) -> float:
    """100 times the mean ROUGE-L F1, without stems, of generated answers, cut where they end.

    Raises:
      ValueError: none, or not as many of the one as of the other.
    """
    return _mean_f1(answers, [cut_answer(text) for text in generations])


def knowledge_prompt(question: str, examples: Sequence[QA] = ()) -> str:
    """The prompt of a question after examples with their answers."""
    shown = "".join(f"Question: {qa.question}\nAnswer: {qa.answer}\n\n" for qa in examples)
    return f"{shown}Question: {question}\nAnswer: "


def cut_answer(text: str) -> str:
    """A generated answer up to a blank line or the next question."""
    for end in _ANSWER_ENDS:
        text = text.split(end)[0]
    return text.strip()


def _mean_f1(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"need as many generations as references and at least one, got {len(hypotheses)} and "
            f"{len(references)}"
        )
    pairs = zip(references, hypotheses, strict=True)
    return 100 * float(np.mean([rouge_l(a, b, use_stemmer=False).fmeasure for a, b in pairs]))


def _read_fields(path: Path, fields: tuple[str, ...]) -> list[Any]:
    rows = _read_list(path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(f), str) for f in fields):
            raise ValueError(f"{path}, entry {number}, must be an object with {', '.join(fields)}")
    return [tuple(row[field] for field in fields) for row in rows]


def _read_texts(path: Path) -> list[str]:
    texts = _read_list(path)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} must be a list of texts")
    return texts


def _read_list(path: Path) -> list[Any]:
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} must be a list that is not empty")
    return rows
