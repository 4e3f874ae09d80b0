"""Text for training: files to documents, to tokens, to packed rows, to batches.

Axes: R packed rows, T tokens of a row, B rows of a batch. NumPy on the host throughout.
"""

import functools
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.checks import check_at_least
from jaxlab.lm.tokenizer import Tokenizer
from jaxlab.user_files import read_json_lines, read_text

Conversation = Sequence[dict]


class Document(NamedTuple):
    """ids [n] int32; loss_mask [n] bool, the tokens that are learned."""

    ids: np.ndarray
    loss_mask: np.ndarray


def read_documents(path: str | PathLike) -> list[str | Conversation]:
    """Documents of a text file, a JSONL file, or a folder of them.

    A text file is one document. A line of a JSONL file is one: {"text": ...} or
    {"messages": [{"role": ..., "content": ...}, ...]}. Of a folder, all *.txt and *.jsonl files
    are read in the order of their names.

    Raises:
      FileNotFoundError: no such path, or a folder without such files.
      ValueError: a JSONL line of another form, an empty document, text that is not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (".txt", ".jsonl"))
        if not files:
            raise FileNotFoundError(f"{path} holds no *.txt or *.jsonl file")
        return [document for file in files for document in read_documents(file)]
    if path.suffix == ".jsonl":
        return [_as_document(where, entry) for where, entry in read_json_lines(path)]
    content = read_text(path)
    if not content.strip():
        raise ValueError(f"{path} is empty; a document needs at least one word")
    return [content]


def encode_document(tokenizer: Tokenizer, document: str | Conversation) -> Document:
    """Tokens of a document and which of them are learned.

    A text is begin-of-text, its tokens, end-of-text (each where the tokenizer has it and it is
    not there already), all learned. A conversation is its chat template's text; what the
    assistant's turns add to it is learned.

    Raises:
      ValueError: a conversation whose template does not extend the text turn by turn.
    """
    if not isinstance(document, str):
        return _encode_conversation(tokenizer, document)
    ids, eos_id = encode_prompt(tokenizer, document), tokenizer.eos_id
    if eos_id is not None and eos_id not in ids[-1:]:
        ids = [*ids, eos_id]
    return Document(np.array(ids, np.int32), np.ones(len(ids), bool))


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text that goes on: begin-of-text (unless it is end-of-text too), the tokens."""
    ids, bos_id = tokenizer.encode(text), tokenizer.bos_id
    if bos_id is None or bos_id in (tokenizer.eos_id, *ids[:1]):
        return ids
    return [bos_id, *ids]


def pack(documents: Iterable[Document], length: int, *, pad_id: int = 0) -> dict[str, np.ndarray]:
    """Documents one after the other in rows of `length` tokens; a document may go over rows.

    Returns:
      A dict of arrays [R, T]: `tokens` int32; `segment_ids` int32, 1, 2, ... within a row, with
      a document's continuation in the next row a segment of its own and 0 the padding (at the
      end of the last row only); `loss_mask` bool.

    Raises:
      ValueError: length < 2, or no tokens at all.
    """
    if length < 2:
        raise ValueError(f"length must be >= 2, two tokens to predict one, got {length}")
    documents = [document for document in documents if len(document.ids)]
    if not documents:
        raise ValueError("there are no tokens to pack; the documents are empty")
    tokens = np.concatenate([document.ids for document in documents])
    numbers = np.repeat(np.arange(len(documents)), [len(d.ids) for d in documents])
    loss_mask = np.concatenate([document.loss_mask for document in documents])
    padding = -len(tokens) % length

    def rows(flat, fill):
        return np.pad(flat, (0, padding), constant_values=fill).reshape(-1, length)

    numbers = rows(numbers, -1)
    segment_ids = np.where(numbers < 0, 0, numbers - numbers[:, :1] + 1)
    return {
        "tokens": rows(tokens, pad_id).astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "loss_mask": rows(loss_mask, False),
    }


def pad_documents(
    documents: Sequence[Document], length: int, *, pad_id: int = 0
) -> dict[str, np.ndarray]:
    """One document per row, padded on the right to `length` tokens or cut there.

    Returns:
      A dict of arrays [R, T]: `tokens` int32, `attention_mask` bool, `loss_mask` bool.
    """
    shape = (len(documents), length)
    tokens = np.full(shape, pad_id, np.int32)
    attention_mask, loss_mask = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (ids, learned) in enumerate(documents):
        size = min(len(ids), length)
        tokens[row, :size], loss_mask[row, :size] = ids[:size], learned[:size]
        attention_mask[row, :size] = True
    return {"tokens": tokens, "attention_mask": attention_mask, "loss_mask": loss_mask}


class Batches:
    """Shuffled batches of packed rows, each a function of its step alone.

    Every epoch is a new order of all rows; epochs follow each other without a gap, so a batch may
    hold the end of one and the beginning of the next. `batches(step)` is the same whenever it is
    asked, which is all that an exact resume needs.

    Args:
      rows: a dict of arrays with one leading axis R.
      batch_size: B.
      seed: of the orders.
    """

    def __init__(self, rows: dict[str, np.ndarray], batch_size: int, *, seed: int):
        check_at_least("batch_size", batch_size, 1)
        self.rows = rows
        self.batch_size = batch_size
        self.num_rows = len(next(iter(rows.values())))
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng((seed, epoch)).permutation(self.num_rows)
        )

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """Rows [B, ...] of the batch of `step` (from 0), and their numbers `row` [B] int32."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        chosen = np.array([self._order(p // self.num_rows)[p % self.num_rows] for p in positions])
        batch = {name: array[chosen] for name, array in self.rows.items()}
        return batch | {"row": np.arange(self.batch_size, dtype=np.int32)}


def _as_document(where: str, entry: Any) -> str | Conversation:
    if isinstance(entry, dict) and isinstance(entry.get("text"), str) and entry["text"]:
        return entry["text"]
    messages = entry.get("messages") if isinstance(entry, dict) else None
    if isinstance(messages, list) and messages and all(map(_is_message, messages)):
        return messages
    raise ValueError(
        f'{where} must be {{"text": "..."}} or {{"messages": [{{"role": "...", '
        f'"content": "..."}}]}} and not empty, got {entry!r:.80}'
    )


def _is_message(entry: object) -> bool:
    return isinstance(entry, dict) and {"role", "content"} <= entry.keys()


def _encode_conversation(tokenizer: Tokenizer, messages: Conversation) -> Document:
    text = tokenizer.apply_chat_template(messages)
    spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:i], add_generation_prompt=True)
        after = tokenizer.apply_chat_template(messages[: i + 1])
        if not (after.startswith(before) and text.startswith(after)):
            raise ValueError(
                f"the chat template rewrites earlier text at message {i}, so what the assistant "
                'adds is not a span of it; give the conversation as {"text": ...}'
            )
        spans.append((len(before), len(after)))
    ids, offsets = tokenizer.encode_with_offsets(text, add_special_tokens=False)
    # A token may begin with the space before the answer: what overlaps a span is learned.
    learned = [any(start < b and a < end for a, b in spans) for start, end in offsets]
    return Document(np.array(ids, np.int32), np.array(learned, bool))
