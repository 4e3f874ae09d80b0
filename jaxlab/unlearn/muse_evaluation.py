"""MUSE's four metrics of a language model.

Source: Shi et al., "MUSE: Machine Unlearning Six-Way Evaluation", arXiv 2407.06460.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlab.unlearn.answers import Speaker
from jaxlab.unlearn.log_probs import IGNORE_INDEX, token_logprobs
from jaxlab.unlearn.muse import MuseCorpus, knowledge_memory, knowledge_prompt, verbatim_memory
from jaxlab.unlearn.privacy import min_k_score, privleak_auc


def muse_scores(
    speaker: Speaker,
    params: Any,
    corpus: MuseCorpus,
    *,
    verbatim_tokens: int = 128,
    answer_tokens: int = 32,
    examples: bool = True,
    bos_id: int | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """`verbmem`, `knowmem_forget`, `knowmem_retain` (percent) and `auc` of forget and hold-out.

    `auc` becomes PrivLeak by `privleak`, with that of the retrained model.

    Args:
      speaker, params: the language model.
      corpus: see `load_muse`.
      verbatim_tokens: length of a continuation; true ones are cut there.
      answer_tokens: of an answer.
      examples: whether questions come after the corpus' examples, else in the model's form.
      bos_id: begin-of-text where it opened the rows of training, and so opens every text here but
        questions in the model's form, which brings its own where it is not end-of-text, too.
      batch_size: texts at a time.
    """
    tokenizer = speaker.tokenizer
    begin = "" if bos_id is None else tokenizer.decode([bos_id])

    def cut(text: str, length: int) -> str:
        return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)[:length])

    prompts, truths = zip(*corpus.verbmem, strict=True)
    said, _ = speaker.greedy_answers(
        params,
        [begin + prompt for prompt in prompts],
        max_new_tokens=verbatim_tokens,
        batch_size=batch_size,
    )
    found = {"verbmem": verbatim_memory([cut(t, verbatim_tokens) for t in truths], said)}
    for name, questions in corpus.knowmem.items():
        shown = corpus.knowmem_icl[name] if examples else ()
        asked = [
            begin + knowledge_prompt(qa.question, shown)
            if examples
            else speaker.form.prompt(qa.question)
            for qa in questions
        ]
        said, _ = speaker.greedy_answers(
            params, asked, max_new_tokens=answer_tokens, batch_size=batch_size
        )
        found[f"knowmem_{name}"] = knowledge_memory([qa.answer for qa in questions], said)
    scores = [
        _min_k(speaker, params, corpus.privleak[name], batch_size, bos_id)
        for name in ("forget", "holdout")
    ]
    return found | {"auc": privleak_auc(*scores)}


def _min_k(
    speaker: Speaker, params: Any, texts: Sequence[str], batch_size: int, bos_id: int | None
) -> np.ndarray:
    """Min-40% scores of texts, cut at the model's row length."""
    encode = functools.partial(speaker.tokenizer.encode, add_special_tokens=False)
    first = [] if bos_id is None else [bos_id]
    tokens = np.zeros((len(texts), speaker.max_len), np.int32)
    labels = np.full_like(tokens, IGNORE_INDEX)
    for row, text in enumerate(texts):
        ids = [*first, *encode(text)][: speaker.max_len]
        tokens[row, : len(ids)] = labels[row, : len(ids)] = ids
    batch_size = min(batch_size, len(texts))
    scores = []
    for start in range(0, len(texts), batch_size):
        rows = np.arange(start, start + batch_size) % len(texts)  # the last batch is filled up
        logits = speaker.apply_fn(params, tokens[rows])
        scores.append(min_k_score(*token_logprobs(logits, labels[rows])))
    return np.concatenate(scores)[: len(texts)]
