"""Prompts from a file, and texts to and from the tokens of two models."""

from collections.abc import Sequence
from os import PathLike

import numpy as np

from jaxlab import lm
from jaxlab.align.rewards import Template
from jaxlab.user_files import read_json


def read_prompts(path: str | PathLike) -> list[str]:
    """The prompts of a JSON list of {"prompt": text, ...}, as AlpacaFarm's and AlpacaEval's.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another form, or an empty list.
    """
    entries = read_json(path)
    names = ("prompt", "instruction")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{path} must hold a list of {{"prompt": "..."}} that is not empty')
    prompts = []
    for number, entry in enumerate(entries):
        texts = [entry.get(name) for name in names] if isinstance(entry, dict) else []
        text = next((text for text in texts if isinstance(text, str) and text), None)
        if text is None:
            raise ValueError(f'entry {number} of {path} has no text under "prompt": {entry!r:.80}')
        prompts.append(text)
    return prompts


def encode_user_prompt(tokenizer: lm.Tokenizer, text: str) -> list[int]:
    """Tokens that a response follows: the chat template's, or begin-of-text and the text."""
    if tokenizer.config.get("chat_template") is None:
        return lm.encode_prompt(tokenizer, text)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True
    )
    return tokenizer.encode(chat, add_special_tokens=False)


def pad_left(prompts: Sequence[Sequence[int]], multiple: int) -> tuple[list[np.ndarray], int]:
    """(prompts [P] with P a multiple of `multiple`, the id they are padded with).

    Few lengths mean few compiled programs. The padding is an id that no prompt begins with, which
    `lm_policy(prompt_pad_id=...)` then tells from text.
    """
    first = {prompt[0] for prompt in prompts}
    pad_id = next(token for token in range(len(first) + 1) if token not in first)
    padded = []
    for prompt in prompts:
        missing = -len(prompt) % multiple
        padded.append(np.array([pad_id] * missing + list(prompt), np.int32))
    return padded, pad_id


def text_template(
    generator: lm.Tokenizer, judge: lm.Tokenizer, prompt: str, stop_ids: Sequence[int] = ()
) -> Template:
    """The template of `sequence_reward` for one prompt and a reward model of other tokens.

    A response is decoded without its stop tokens, put into the judge's chat template as the
    assistant's turn (or after the prompt, where the judge has none), and encoded again.
    """
    stops = set(stop_ids)
    chat = judge.config.get("chat_template") is not None

    def template(_, responses, lengths):
        texts = []
        for row, length in zip(np.asarray(responses), np.asarray(lengths), strict=True):
            ids = [token for token in row[:length].tolist() if token not in stops]
            answer = generator.decode(ids, skip_special_tokens=True)
            turns = [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": answer},
            ]
            texts.append(judge.apply_chat_template(turns) if chat else f"{prompt}{answer}")
        return judge.encode_batch(texts, side="right", add_special_tokens=not chat)

    return template
