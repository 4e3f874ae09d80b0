"""Documents to rows to batches: nothing lost, nothing learned that should not be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab.lm.copying import SEPARATOR, copy_batch
from jaxlab.lm.data import (
    Batches,
    Document,
    encode_document,
    encode_prompt,
    pack,
    pad_documents,
    read_documents,
)
from jaxlab.lm.stories import write_stories
from jaxlab.lm.tokenizer import Tokenizer, train_tokenizer

pytest.importorskip("tokenizers")

CHAT = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "see you"},
]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["hello there, see you, bye [assistant] [user] "] * 9, 290)


def documents_of(lengths):
    """Documents with ids 1, 2, 3, ... over all of them, so that every token is known."""
    ends = np.cumsum(lengths)
    ids = np.arange(1, ends[-1] + 1, dtype=np.int32)
    return [Document(part, part % 3 != 0) for part in np.split(ids, ends[:-1])]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(2, 17))
def test_packing_keeps_every_token_once_in_its_segment(lengths, length):
    documents = documents_of(lengths)
    rows = pack(documents, length, pad_id=0)
    total = sum(lengths)
    flat = {name: array.reshape(-1) for name, array in rows.items()}
    assert rows["tokens"].shape == (-(-total // length), length)
    np.testing.assert_array_equal(flat["tokens"][:total], np.arange(1, total + 1))
    np.testing.assert_array_equal(flat["loss_mask"][:total], np.arange(1, total + 1) % 3 != 0)
    assert not flat["tokens"][total:].any()
    assert not flat["segment_ids"][total:].any()
    assert not flat["loss_mask"][total:].any()
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    for row, segments in enumerate(rows["segment_ids"]):
        inside = numbers[row * length : (row + 1) * length]
        used = segments[: len(inside)]
        assert used[0] == 1
        # Two tokens share a segment exactly if they share a document.
        np.testing.assert_array_equal(used[:, None] == used[None], inside[:, None] == inside[None])


def test_padding_documents():
    rows = pad_documents(documents_of([2, 5]), 4, pad_id=9)
    np.testing.assert_array_equal(rows["tokens"], [[1, 2, 9, 9], [3, 4, 5, 6]])
    np.testing.assert_array_equal(rows["attention_mask"], [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(rows["loss_mask"], [[1, 1, 0, 0], [0, 1, 1, 0]])


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_batches_cover_every_row_once_an_epoch(num_rows, batch_size, seed):
    batches = Batches({"tokens": np.arange(num_rows)[:, None]}, batch_size, seed=seed)
    steps = 3 * num_rows
    order = np.concatenate([batches(step)["tokens"][:, 0] for step in range(steps)])
    epochs = order[: len(order) // num_rows * num_rows].reshape(-1, num_rows)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(num_rows), (len(epochs), 1)))
    again = Batches({"tokens": np.arange(num_rows)[:, None]}, batch_size, seed=seed)
    np.testing.assert_array_equal(again(steps - 1)["tokens"], batches(steps - 1)["tokens"])
    np.testing.assert_array_equal(batches(0)["row"], np.arange(batch_size))


def test_epochs_and_seeds_have_orders_of_their_own():
    rows = {"tokens": np.arange(50)[:, None]}
    orders = [Batches(rows, 50, seed=seed)(step)["tokens"] for seed in (0, 1) for step in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4


def test_a_text_gets_its_begin_and_end(tokenizer):
    ids = tokenizer.encode("bye")
    document = encode_document(tokenizer, "bye")
    assert document.ids.tolist() == [1, *ids, 2]
    assert document.loss_mask.all()
    assert encode_prompt(tokenizer, "bye") == [1, *ids]
    assert encode_document(tokenizer, "<bos>bye<eos>").ids.tolist() == [1, *ids, 2]
    one_token = Tokenizer(tokenizer._backend, {"bos_token": "<eos>", "eos_token": "<eos>"})
    assert encode_document(one_token, "bye").ids.tolist() == [*ids, 2]
    none = Tokenizer(tokenizer._backend, {})
    assert encode_document(none, "bye").ids.tolist() == ids


def test_only_the_assistants_words_are_learned(tokenizer):
    chat = Tokenizer(tokenizer._backend, tokenizer.config | {"chat_template": TEMPLATE})
    document = encode_document(chat, CHAT)
    learned = chat.decode(document.ids[document.loss_mask])
    assert learned == "hi<eos> see you<eos>"  # " see" is one token, its space the template's
    assert chat.decode(document.ids) == chat.apply_chat_template(CHAT)


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    template = "{{ messages | length }}" + TEMPLATE
    chat = Tokenizer(tokenizer._backend, tokenizer.config | {"chat_template": template})
    with pytest.raises(ValueError, match="rewrites earlier text"):
        encode_document(chat, CHAT)


def test_reading_files(tmp_path):
    (tmp_path / "b.txt").write_text("whole\nfile\n", encoding="utf-8")
    lines = [json.dumps({"text": "é"}, ensure_ascii=False), "", json.dumps({"messages": CHAT})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "other.csv").write_text("x")
    assert read_documents(tmp_path / "b.txt") == ["whole\nfile\n"]
    assert read_documents(str(tmp_path)) == ["é", CHAT, "whole\nfile\n"]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "not JSON"),
        ("[1]", "must be"),
        ('{"text": 3}', "must be"),
        ('{"text": ""}', "not empty"),
        ('{"messages": []}', "must be"),
        ('{"messages": [{"role": "user"}]}', "must be"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, match):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=match) as error:
        read_documents(file)
    assert "bad.jsonl:2" in str(error.value)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_documents(tmp_path / "missing.txt")
    with pytest.raises(FileNotFoundError, match=r"no \*\.txt"):
        read_documents(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match="empty"):
        read_documents(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match="UTF-8"):
        read_documents(tmp_path / "latin.txt")


def test_bad_sizes():
    with pytest.raises(ValueError, match="length must be >= 2"):
        pack(documents_of([3]), 1)
    with pytest.raises(ValueError, match="no tokens"):
        pack([], 8)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        Batches({"tokens": np.zeros((2, 2))}, 0, seed=0)
    with pytest.raises(ValueError, match="vocab_size >= 3, got 3 and 2"):
        copy_batch(0, 0, 1, length=3, vocab_size=2)


def test_copy_batches():
    batch = copy_batch(0, 3, 5, length=4, vocab_size=9)
    tokens, learned = batch["tokens"], batch["loss_mask"]
    np.testing.assert_array_equal(tokens[:, :4], tokens[:, 5:])
    assert (tokens[:, 4] == SEPARATOR).all()
    assert (np.delete(tokens, 4, axis=1) != SEPARATOR).all()
    np.testing.assert_array_equal(learned.sum(axis=0), [0] * 5 + [5] * 4)
    assert (copy_batch(0, 4, 5, length=4, vocab_size=9)["tokens"] != tokens).any()


def test_stories_repeat_by_seed_and_their_probabilities_add_up():
    assert write_stories(1, 20) == write_stories(1, 20) != write_stories(2, 20)
    stories = write_stories(0, 20_000)
    openings = len({story.text.split(".")[0] for story in stories})
    possible = 4 * 10 * 8 * 10 * 8  # when, who, colour, thing, where; all with equal chances
    assert openings == pytest.approx(possible * -np.expm1(-len(stories) / possible), rel=0.02)
    event = np.log(4) + np.mean(np.log([6, 1, 8, 4 * 4 * 6]))
    entropy = np.log(possible * 9) + np.log(4) + 2.5 * event + np.log(4)
    nats = np.array([story.nats for story in stories])
    assert nats.mean() == pytest.approx(entropy, abs=4 * nats.std() / np.sqrt(len(nats)))
