"""Round trips, offsets, folders, padding and chat templates; transformers reads what is saved."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab.lm.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

pytest.importorskip("tokenizers")

TEXTS = [
    "the cat sat on the mat; the dog sat too. ",
    "Zürich, naïve café, 日本語のテキスト 🎉\n",
] * 20
TEMPLATE = (
    "{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message.role) }}{% endif %}"
    "{{ bos_token }}{{ message['role'] }}: {{ message['content'] | trim }}"
    "{% generation %}{{ eos_token }}{% endgeneration %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 320)


def test_special_tokens_come_first(tokenizer):
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert tokenizer.vocab_size <= 320
    assert tokenizer.encode("a<eos>")[-1] == 2
    ids = tokenizer.encode("the cat")
    assert ids == tokenizer.encode("the cat", add_special_tokens=False)
    assert tokenizer.decode([1, *ids, 2], skip_special_tokens=True) == "the cat"
    assert tokenizer.decode(np.array([1, *ids])) == "<bos>the cat"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_comes_back_and_offsets_cover_it(text):
    tokenizer = _TRAINED
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(offsets) == len(ids)
    covered = np.zeros(len(text), bool)
    for start, end in offsets:
        assert 0 <= start < end <= len(text)
        covered[start:end] = True
    assert covered.all()


_TRAINED = train_tokenizer(TEXTS, 320)


def test_offsets_are_characters_not_bytes(tokenizer):
    text = "é🎉<eos>the"
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert offsets[ids.index(2)] == (2, 7)
    assert text[slice(*offsets[-1])] == "the"
    parts = [span for span in offsets if span[1] <= 2]
    assert set(parts) <= {(0, 1), (1, 2), (0, 2)}


def test_padding(tokenizer):
    tokens, mask = tokenizer.encode_batch(["the cat", "a", ""])
    assert tokens.dtype == np.int32
    assert mask.dtype == bool
    assert tokens.shape == mask.shape
    np.testing.assert_array_equal(mask[:, -1], [True, True, False])
    assert tokens[1, -1] == tokenizer.encode("a")[0]
    assert (tokens[~mask] == 0).all()
    right, right_mask = tokenizer.encode_batch(["the cat", "a"], length=12, side="right")
    assert right.shape == (2, 12)
    np.testing.assert_array_equal(right_mask[1], [True] + [False] * 11)
    assert right[1, 0] == tokenizer.encode("a")[0]


def test_padding_falls_back_to_the_end_token_then_to_zero(tokenizer):
    end_only = Tokenizer(tokenizer._backend, {"eos_token": "<eos>"})
    assert end_only.pad_id is None
    assert end_only.encode_batch(["a", "a a a"])[0][0, 0] == 2
    bare = Tokenizer(tokenizer._backend, {})
    assert bare.encode_batch(["a", "a a a"])[0][0, 0] == 0


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tok")
    again = load_tokenizer(str(tmp_path / "tok"))
    assert again.config == tokenizer.config
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert (again.bos_id, again.eos_id, again.pad_id) == (1, 2, 0)
    assert again.vocab_size == tokenizer.vocab_size


def test_transformers_loads_what_is_saved(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    templated = Tokenizer(tokenizer._backend, tokenizer.config | {"chat_template": TEMPLATE})
    templated.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS[:2], "x <eos> y"):
        ours = templated.encode(text)
        assert theirs(text)["input_ids"] == ours
        assert theirs.decode(ours) == templated.decode(ours)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    messages = [
        {"role": "user", "content": " 1 < 2 & 'é' "},
        {"role": "assistant", "content": "yes"},
    ]
    for prompt in (False, True):
        expected = theirs.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
        assert templated.apply_chat_template(messages, add_generation_prompt=prompt) == expected
    ours, mask = templated.encode_batch(["the cat", "a"])
    padded = theirs(["the cat", "a"], padding=True, padding_side="left")
    np.testing.assert_array_equal(padded["input_ids"], ours)
    np.testing.assert_array_equal(padded["attention_mask"], mask)


def test_special_tokens_as_dicts_and_templates_in_files(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = {
        "bos_token": {"content": "<bos>", "lstrip": False},
        "eos_token": None,
        "chat_template": [{"name": "default", "template": "old"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<eos>"}))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.bos_id, loaded.eos_id, loaded.pad_id) == (1, 2, None)
    assert loaded.apply_chat_template([]) == "old"
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}"
        "{% endfor %}{{ bos_token }}"
    )
    loaded = load_tokenizer(tmp_path)
    text = loaded.apply_chat_template([{"role": "u", "content": "<é>"}] * 2)
    assert text == '{"role": "u", "content": "<é>"}<bos>'
    template = "{{ messages[0] | tojson(ensure_ascii=True, sort_keys=True) }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    text = load_tokenizer(tmp_path).apply_chat_template([{"role": "u", "content": "<é>"}])
    assert text == r'{"content": "<\u00e9>", "role": "u"}'


def test_a_post_processor_adds_special_tokens(tokenizer):
    from tokenizers import Tokenizer as Backend
    from tokenizers.processors import TemplateProcessing

    backend = Backend.from_str(tokenizer._backend.to_str())
    backend.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    wrapped = Tokenizer(backend, tokenizer.config)
    ids, offsets = wrapped.encode_with_offsets("the")
    assert ids[0] == 1
    assert offsets[0] == (0, 0)
    assert wrapped.encode("the", add_special_tokens=False) == ids[1:]


def test_gpt2_folder_without_tokenizer_json(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 300, special_tokens=("<|endoftext|>",))
    tokenizer._backend.model.save(str(tmp_path))
    loaded = load_tokenizer(tmp_path)
    text = "the naïve cat<|endoftext|>"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.bos_id == loaded.eos_id == 0


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="sentencepiece"):
        load_tokenizer(tmp_path)


def test_a_damaged_file_is_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8")[:500], encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)


def test_bad_input(tokenizer):
    with pytest.raises(ValueError, match="length=2"):
        tokenizer.encode_batch(["a", "the quick brown fox"], length=2)
    with pytest.raises(ValueError, match="middle"):
        tokenizer.encode_batch(["a"], side="middle")
    with pytest.raises(ValueError, match="chat template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}])
    with pytest.raises(ValueError, match="vocab_size=200"):
        train_tokenizer(TEXTS, 200)


def test_a_templates_own_errors_reach_the_caller(tokenizer):
    templated = Tokenizer(tokenizer._backend, tokenizer.config | {"chat_template": TEMPLATE})
    with pytest.raises(ValueError, match="unknown role wizard"):
        templated.apply_chat_template([{"role": "wizard", "content": "x"}])
    broken = Tokenizer(tokenizer._backend, {"chat_template": "{% if %}"})
    with pytest.raises(ValueError, match="chat template"):
        broken.apply_chat_template([])
    hostile = Tokenizer(tokenizer._backend, {"chat_template": "{{ ''.__class__.__mro__ }}"})
    with pytest.raises(ValueError, match="unsafe"):
        hostile.apply_chat_template([])
