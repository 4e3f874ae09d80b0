"""Tokenizers: Hugging Face `tokenizer.json` folders, byte-level BPE training, chat templates.

Needs the `tokenizers` library (`pip install "jaxlab[lm]"`), imported on first use.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np

from jaxlab.runs import atomic
from jaxlab.user_files import read_json

_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """Text to token ids and back; made by `load_tokenizer` or `train_tokenizer`.

    Attributes:
      bos_id, eos_id, pad_id: ids of the special tokens, or None where there is none.
      vocab_size: number of tokens, the added ones included.
      config: the contents of `tokenizer_config.json`, written back by `save`.
    """

    bos_id: int | Any
    eos_id: int | Any
    pad_id: int | Any

    def __init__(self, backend: Any, config: dict):
        """Wraps a `tokenizers.Tokenizer` and the `tokenizer_config.json` that belongs to it."""
        self._backend = backend
        self.config = config
        self.bos_id, self.eos_id, self.pad_id, _ = (
            None if token is None else backend.token_to_id(token)
            for token in (self._special(name) for name in _SPECIAL_NAMES)
        )

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`, with the special tokens that the tokenizer itself adds."""
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_with_offsets(
        self, text: str, *, add_special_tokens: bool = True
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the span of each as `text[start:end]`, in characters.

        Tokens that are parts of one character share its span; added special tokens have (0, 0).
        """
        encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Text of `ids` (a sequence or array)."""
        ids = [int(token) for token in ids]
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        length: int | None = None,
        side: str = "left",
        add_special_tokens: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(tokens [B, T] int32, mask [B, T] bool), padded on `side` to `length` or the longest.

        The padding is `pad_id`, else `eos_id`, else 0.

        Raises:
          ValueError: a side other than "left" or "right"; a text longer than `length`.
        """
        if side not in ("left", "right"):
            raise ValueError(f'side={side!r}: use "left" (to generate) or "right"')
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        rows = [encoding.ids for encoding in encodings]
        longest = max(map(len, rows), default=0)
        length = longest if length is None else length
        if longest > length:
            index = max(range(len(rows)), key=lambda i: len(rows[i]))
            raise ValueError(
                f"text {index} has {longest} tokens, more than length={length}; "
                "raise length or shorten the text"
            )
        padding = next((i for i in (self.pad_id, self.eos_id) if i is not None), 0)
        tokens = np.full((len(rows), length), padding, np.int32)
        mask = np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            span = slice(length - len(row), length) if side == "left" else slice(0, len(row))
            tokens[i, span], mask[i, span] = row, True
        return tokens, mask

    def apply_chat_template(
        self, messages: Sequence[dict], *, add_generation_prompt: bool = False
    ) -> str:
        """The prompt text of a conversation, `[{"role": ..., "content": ...}, ...]`.

        Raises:
          ValueError: the tokenizer has no chat template, the template is broken, or it refuses
            these messages (`raise_exception`), with the template's message.
        """
        template = self._chat_template()
        if template is None:
            raise ValueError(
                "this tokenizer has no chat template; put one into config['chat_template'] or "
                "beside tokenizer.json as chat_template.jinja"
            )
        specials = {name: self._special(name) or "" for name in _SPECIAL_NAMES}
        try:
            return (
                _template_environment()
                .from_string(template)
                .render(
                    messages=messages,
                    add_generation_prompt=add_generation_prompt,
                    tools=None,
                    documents=None,
                    **specials,
                )
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"chat template: {error}") from error

    def save(self, path: str | PathLike):
        """Writes `tokenizer.json` and `tokenizer_config.json`, a folder transformers loads."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / "tokenizer.json", self._backend.to_str(pretty=True))
        atomic.write_json(folder / "tokenizer_config.json", self.config)

    def _special(self, name: str) -> str | None:
        entry = self.config.get(name)
        return entry.get("content") if isinstance(entry, dict) else entry

    def _chat_template(self) -> str | None:
        template = self.config.get("chat_template")
        if isinstance(template, list):  # several named templates
            named = {entry["name"]: entry["template"] for entry in template}
            return named.get("default")
        return template


def load_tokenizer(path: str | PathLike) -> Tokenizer:
    """Reads a Hugging Face tokenizer folder.

    The folder holds `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`; special tokens
    come from `tokenizer_config.json` and `special_tokens_map.json`, the chat template from the
    former or from `chat_template.jinja`.

    Raises:
      FileNotFoundError: neither form is there (a folder with only a sentencepiece model is
        told how to make a `tokenizer.json`).
      ValueError: a damaged `tokenizer.json`, or another of its files that is not JSON.
    """
    folder = Path(path)
    config = _read_config(folder / "special_tokens_map.json")
    config |= {
        k: v for k, v in _read_config(folder / "tokenizer_config.json").items() if v is not None
    }
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
    if (folder / "tokenizer.json").is_file():
        backend = _read_backend(folder / "tokenizer.json")
        backend.no_padding()
        backend.no_truncation()
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _gpt2_backend(folder)
        end = "<|endoftext|>"
        if backend.token_to_id(end) is not None:
            backend.add_special_tokens([end])
            config = {"bos_token": end, "eos_token": end} | config
    else:
        raise FileNotFoundError(_missing_tokenizer(folder))
    return Tokenizer(backend, config)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = ("<pad>", "<bos>", "<eos>"),
) -> Tokenizer:
    """Trains a byte-level BPE tokenizer, which encodes any text and decodes it to the same text.

    Args:
      texts: the training texts.
      vocab_size: upper bound on the number of tokens, at least 256 bytes + the special tokens.
      special_tokens: get ids 0, 1, 2, ...; the first three are the padding, begin-of-text and
        end-of-text tokens. `encode` adds none of them by itself.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size={vocab_size}: a byte-level vocabulary needs at least {smallest}, "
            f"256 bytes and {len(special_tokens)} special tokens"
        )
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= dict(zip(("pad_token", "bos_token", "eos_token"), special_tokens, strict=False))
    return Tokenizer(backend, config)


def _read_backend(file: Path) -> Any:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file} cannot be read: {error}; it is damaged or foreign") from error


def _gpt2_backend(folder: Path) -> Any:
    """Byte-level BPE from `vocab.json` and `merges.txt`."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _missing_tokenizer(folder: Path) -> str:
    message = f"{folder / 'tokenizer.json'} does not exist (nor vocab.json with merges.txt)"
    if (folder / "tokenizer.model").is_file():
        message += (
            "; the sentencepiece file tokenizer.model is not read: make a tokenizer.json with "
            "transformers, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return message


def _read_config(path: Path) -> dict:
    return read_json(path) if path.is_file() else {}


def _template_environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """The sandbox in which chat templates run, with what transformers offers them."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _GenerationBlock],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_template_error
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %} ... {% endgeneration %}` marks an assistant's words; here plain text."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of jinja2's own filter, with the arguments templates give."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_template_error(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
