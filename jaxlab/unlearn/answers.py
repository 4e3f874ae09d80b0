"""What a language model of `jaxlab.lm` does with questions: likelihood of answers, greedy answers.

Axes: N rows, T tokens.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab import lm
from jaxlab.unlearn.data import encode_qa, stack_rows
from jaxlab.unlearn.log_probs import IGNORE_INDEX, ChunkedHead
from jaxlab.unlearn.objective import ApplyFn
from jaxlab.unlearn.training import reference_logprobs
from jaxlab.unlearn.types import LMBatch

_LARGE_VOCAB = 16_384  # from here on the logits of a batch outweigh the rest of a step
_HEAD_LEAVES = ("head", "embed")


class PromptFormat(NamedTuple):
    """What stands around a question; see `encode_qa`."""

    question_prefix: str = "Question: "
    question_suffix: str = "\n"
    answer_prefix: str = "Answer: "

    def prompt(self, question: str) -> str:
        """The text before the answer."""
        return self.question_prefix + question + self.question_suffix + self.answer_prefix


FORMATS = {
    "question-answer": PromptFormat(),
    "llama2-chat": PromptFormat("[INST] ", " [/INST]", ""),
    "plain": PromptFormat("", "\n", ""),
}


class Speaker(NamedTuple):
    """A language model without its weights.

    Attributes:
      tokenizer: of `jaxlab.lm`.
      cfg: its `LMConfig`.
      apply_fn: (params, tokens [B, T]) -> logits [B, T, V].
      form: the prompt's form.
      max_len: T of encoded rows.
    """

    tokenizer: lm.Tokenizer
    cfg: lm.LMConfig
    apply_fn: ApplyFn
    form: PromptFormat
    max_len: int

    def encode(self, pairs: Sequence[tuple[str, str]]) -> LMBatch:
        """Rows `[N, T]` of questions with answers, of which the answers are scored.

        Raises:
          ValueError: a question that leaves no room for an answer, or no pairs.
        """

        def ids(text: str) -> list[int]:
            return self.tokenizer.encode(text, add_special_tokens=False)

        return stack_rows(
            encode_qa(
                ids,
                question,
                answer,
                max_len=self.max_len,
                eos_id=self.tokenizer.eos_id,
                pad_id=self.tokenizer.pad_id,
                **self.form._asdict(),
            )
            for question, answer in pairs
        )

    def greedy_answers(
        self, params: Any, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int = 64
    ) -> tuple[list[str], list[list[int]]]:
        """The likeliest continuation, token by token, of each prompt: texts and token ids.

        The end-of-text is not part of them. Prompts are given as they are, in the model's form.
        """
        padded = [*prompts, *[prompts[-1]] * (-len(prompts) % min(batch_size, len(prompts)))]
        tokens, mask = self.tokenizer.encode_batch(padded, add_special_tokens=False)
        ids = []
        for start in range(0, len(padded), min(batch_size, len(prompts))):
            rows = slice(start, start + min(batch_size, len(prompts)))
            result = lm.generate(
                jax.random.key(0),
                params,
                self.cfg,
                tokens[rows],
                attention_mask=mask[rows],
                max_new_tokens=max_new_tokens,
                sampling=lm.SamplingConfig(temperature=0.0),
                eos_ids=self.tokenizer.eos_id,
            )
            for row, length in zip(*map(np.asarray, (result.tokens, result.lengths)), strict=True):
                answer = row[:length].tolist()
                ends = answer[-1:] == [self.tokenizer.eos_id]
                ids.append(answer[:-1] if ends else answer)
        ids = ids[: len(prompts)]
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in ids], ids


@functools.cache  # one pair of functions for one model: compiled programs are found by them
def scoring(cfg: lm.LMConfig) -> tuple[ApplyFn, ChunkedHead]:
    """A model in two parts, its hidden states and its head, as objectives take it.

    The head makes logits where tokens are scored; of a large vocabulary, a chunk at a time.
    """

    def hidden_fn(params: Any, tokens: jax.Array) -> jax.Array:
        return lm.forward(params, cfg, tokens).hidden

    def weights(params: Any) -> dict:
        leaves = _HEAD_LEAVES if cfg.tie_embeddings else _HEAD_LEAVES[:1]
        return {name: params[name] for name in leaves if name in params}

    chunk_size = 256 if cfg.vocab_size >= _LARGE_VOCAB else None
    return hidden_fn, ChunkedHead(weights, functools.partial(_head_logits, cfg), chunk_size)


def _head_logits(cfg: lm.LMConfig, weights: dict, hidden: jax.Array) -> jax.Array:
    return lm.head_logits(weights, cfg, hidden)


def answer_lengths(rows: LMBatch) -> np.ndarray:
    """The number of scored tokens of each row, `[N]` int64."""
    return np.asarray(rows.labels[:, 1:] != IGNORE_INDEX).sum(1)


def answer_nll(speaker: Speaker, params: Any, rows: LMBatch) -> np.ndarray:
    """Mean negative log-likelihood per scored token of each row, `[N]` float64, nats."""
    hidden_fn, head = scoring(speaker.cfg)
    logp = np.asarray(reference_logprobs(hidden_fn, params, rows, head=head), np.float64)
    return -logp / np.maximum(answer_lengths(rows), 1)
