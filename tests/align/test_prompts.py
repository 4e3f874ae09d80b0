import json

import numpy as np
import pytest

from jaxlab import lm
from jaxlab.align.prompts import encode_user_prompt, pad_left, read_prompts, text_template

CHAT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def tokenizer(template=None, words="ab ab"):
    made = lm.train_tokenizer([words], 300)
    if template:
        made.config["chat_template"] = template
    return made


def test_reads_alpaca_farm_and_alpaca_eval(tmp_path):
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"JSON_idx": 1, "prompt": "Hi"}, {"instruction": "Why?"}]))
    assert read_prompts(file) == ["Hi", "Why?"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "p.json:1: not JSON"),
        ("{}", "must hold a list"),
        ("[]", "must hold a list"),
        ('[{"prompt": "a"}, {"text": "b"}]', "entry 1 .* has no text"),
        ('["a"]', "entry 0 .* has no text"),
    ],
)
def test_refuses_other_files(content, message, tmp_path):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / "p.json")
    with pytest.raises(FileNotFoundError):
        read_prompts(tmp_path / "absent.json")


def test_encodes_with_the_chat_template_or_begin_of_text():
    plain, chat = tokenizer(), tokenizer(CHAT)
    assert encode_user_prompt(plain, "ab") == [plain.bos_id, *plain.encode("ab")]
    assert chat.decode(encode_user_prompt(chat, "ab")) == "[user]ab[assistant]"


def test_pads_with_an_id_that_no_prompt_begins_with():
    padded, pad_id = pad_left([[0, 5], [1, 0, 2, 3]], 4)
    assert pad_id == 2
    assert [p.tolist() for p in padded] == [[2, 2, 0, 5], [1, 0, 2, 3]]


def test_a_response_goes_into_the_judges_template_without_stop_tokens():
    generator, judge = tokenizer(), tokenizer(CHAT, words="zz zz")
    ids = [*generator.encode("ab a"), generator.eos_id, 7]
    responses, lengths = np.array([ids, ids]), np.array([len(ids) - 1, 1])
    template = text_template(generator, judge, "Q?", stop_ids=(generator.eos_id,))
    tokens, mask = template(None, responses, lengths)
    texts = [judge.decode(row[keep]) for row, keep in zip(tokens, mask, strict=True)]
    first = generator.decode(ids[:1])
    assert texts == ["[user]Q?[assistant]ab a", f"[user]Q?[assistant]{first}"]
    plain = text_template(generator, tokenizer(words="zz"), "Q?")
    tokens, mask = plain(None, responses, lengths)
    assert judge.decode(tokens[0][mask[0]]) == "Q?ab a"
