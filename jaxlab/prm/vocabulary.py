"""The marks of AutoPRM's prompts as tokens of their own beside any model's vocabulary."""

import dataclasses
import re
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from jaxlab import lm

MARKS = ("<PRE>", "<SUF>", "<MID>", "<END>", "<EPS>", "<QD>", "<SEP>")
_MARK = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")


class MarkedTokenizer:
    """A tokenizer in which each of `MARKS` is one token, numbered from `first_id` on.

    The marks are cut out before the tokenizer sees a text, so that none is split into pieces,
    whatever its rules are. `sep_id` ends a sub-solution, `end_id` a list of subquestions.
    """

    def __init__(self, tokenizer: lm.Tokenizer, first_id: int):
        self._tokenizer = tokenizer
        self._ids = {mark: first_id + number for number, mark in enumerate(MARKS)}
        self._marks: dict = {number: mark for mark, number in self._ids.items()}
        self.sep_id, self.end_id = self._ids["<SEP>"], self._ids["<END>"]
        pads = (tokenizer.pad_id, tokenizer.eos_id)
        self.pad_id = next((pad for pad in pads if pad is not None), 0)
        self.begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]

    def encode(self, text: str) -> list[int]:
        """Token ids, without the beginning of a text, which is `begin`."""
        ids = []
        for part in _MARK.split(text):
            if part in self._ids:
                ids.append(self._ids[part])
            elif part:
                ids += self._tokenizer.encode(part, add_special_tokens=False)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, marks included; padding and other special tokens are left out."""
        text, pending = "", []
        for number in [*map(int, ids), None]:
            if number is not None and number not in self._marks:
                pending.append(number)
                continue
            text += self._tokenizer.decode(pending, skip_special_tokens=True)
            pending = []
            text += self._marks.get(number, "")
        return text


def grow_vocabulary(
    key: jax.Array, params: dict, cfg: lm.LMConfig, count: int
) -> tuple[lm.LMConfig, dict]:
    """A language model with `count` more tokens; the logits of the old ones stay as they are.

    New rows of the embedding and new columns of the head are the mean of the old ones, with noise
    of a tenth of their spread, so that no new token begins as an outlier.

    Raises:
      ValueError: a model that has no output over its vocabulary.
    """
    if cfg.num_labels:
        raise ValueError(f"a classifier of {cfg.num_labels} labels has no vocabulary to answer in")

    def grow(key, weights, axis):
        mean = jnp.mean(weights, axis=axis, keepdims=True)
        spread = jnp.std(weights, axis=axis, keepdims=True)
        shape = list(weights.shape)
        shape[axis] = count
        new = mean + 0.1 * spread * jax.random.normal(key, shape, weights.dtype)
        return jnp.concatenate([weights, new], axis=axis)

    keys = jax.random.split(key, 3)
    grown = params | {"embed": {"w": grow(keys[0], params["embed"]["w"], 0)}}
    if "head" in params:
        grown["head"] = {
            name: grow(key, weights, -1)
            for key, (name, weights) in zip(keys[1:], sorted(params["head"].items()), strict=False)
        }
    return dataclasses.replace(cfg, vocab_size=cfg.vocab_size + count), grown
