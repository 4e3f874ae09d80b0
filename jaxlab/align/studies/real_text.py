"""C4-text: real text, a model trained on it, and rewards that read the text."""

import functools
import re
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab import lm
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.policy import lm_policy
from jaxlab.align.responses import RewardFn
from jaxlab.align.rewards import perplexity_reward
from jaxlab.align.schedule import SpecRejConfig
from jaxlab.align.speculative import speculative_rejection
from jaxlab.align.statistics import equivalent_n, expected_max, partial_final_correlation
from jaxlab.align.studies.models import on_device, train_language_model
from jaxlab.runs import Claim, Run, digest, not_run, progress, spread, study_key

_PROMPT_LEN, _FIRST = 4, 4  # tokens
_EARLY = 16  # tokens of the part whose score is compared with the final one
_BATCH = 4
_VOCABULARY = 512
_WORD = re.compile(r"[A-Za-z]+")


class _Reader(NamedTuple):
    tokenizer: lm.Tokenizer
    rows: np.ndarray  # [R, T] to train on
    prompts: np.ndarray  # [p, P], beginnings of lines that were held out
    words: frozenset[str]


def measure(config, run: Run) -> list[Claim]:
    """Tokens at equal reward on real text: a share of real words, and the model's perplexity."""
    statement = "16 to 32 times more computationally efficient, on real text"
    if not config.text_steps:
        reason = "text_steps is 0; --preset=small trains a model of text"
        return [not_run("C4-text", statement, reason, paper="16 to 32")]
    reader = _read(config)
    cfg = _model_config(reader.tokenizer.vocab_size, config.text_tokens)
    content = f"_{digest((reader.rows, reader.prompts))}" if config.text else ""
    trained = run.once(
        f"text_model{content}",
        lambda: train_language_model(study_key(config, 9), cfg, reader.rows, _BATCH, 3e-3),
    )
    params = on_device(trained["params"])
    rewards = {
        "share of real words": _word_reward(reader),
        "perplexity": perplexity_reward(params, cfg),
    }
    results = {
        name: run.once(
            f"text_{name.split()[0]}{content}",
            functools.partial(_compare, config, cfg, params, reader, reward),
        )
        for name, reward in rewards.items()
    }
    lines = {name: _cost(config, result) for name, result in results.items()}
    return [
        Claim(
            "C4-text",
            statement,
            "16 to 32",
            ", ".join(f"{ratio:.1f}x tokens ({name})" for name, (ratio, _) in lines.items()),
            "reported",
            detail=f"{config.text or 'The Python language reference'}, {trained['losses'][-1]:.2f} "
            f"nats per token after {config.text_steps} steps; {len(reader.prompts)} prompts of "
            f"{_PROMPT_LEN} tokens, {_rows(config)} rows, {_length(config)} tokens, first cut "
            f"after {_FIRST}, alpha = 1/2, same keys. "
            + "; ".join(f"{name}: {detail}" for name, (_, detail) in lines.items())
            + ". A share of real words is nearly a sum of independent parts, see C4-additive.",
        )
    ]


def _read(config) -> _Reader:
    documents = lm.read_documents(config.text) if config.text else list(topics.values())
    texts = [document for document in documents if isinstance(document, str)]
    if len(texts) < len(documents):
        raise ValueError(f"{config.text} holds conversations; give plain text")
    lines = [line for text in texts for line in text.splitlines() if len(line.split()) > 4]
    if len(lines) < 2:
        raise ValueError(f"{config.text} has {len(lines)} lines of five words; give more text")
    rng = np.random.default_rng((config.seed, 9))
    held_out = set(
        rng.choice(len(lines), size=min(config.text_prompts, len(lines) // 2), replace=False)
    )
    training = "\n".join(line for i, line in enumerate(lines) if i not in held_out)
    tokenizer = lm.train_tokenizer([training], _VOCABULARY)
    ids = np.array(tokenizer.encode(training), np.int32)
    # Rows begin at random places and with a begin-of-text token, as prompts do.
    starts = rng.integers(len(ids), size=config.text_steps * _BATCH)
    rows = ids[(starts[:, None] + np.arange(config.text_tokens - 1)) % len(ids)]
    rows = np.hstack([np.full((len(rows), 1), tokenizer.bos_id, np.int32), rows])
    prompts = np.stack(
        [
            np.array([tokenizer.bos_id, *tokenizer.encode(lines[i])[: _PROMPT_LEN - 1]], np.int32)
            for i in sorted(held_out)
        ]
    )
    words = frozenset(word.lower() for word in _WORD.findall(training))
    return _Reader(tokenizer, rows, prompts, words)


def _model_config(vocab_size: int, max_seq_len: int) -> lm.LMConfig:
    return lm.LMConfig(
        vocab_size=vocab_size,
        d_model=96,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=24,
        d_ff=256,
        max_seq_len=max_seq_len,
        tie_embeddings=True,
    )


def _word_reward(reader: _Reader) -> RewardFn:
    """Share of a response's words that the training text has, 0 where it has no word."""

    def reward(prompt, responses, lengths):
        scores = []
        for row, length in zip(responses, lengths, strict=True):
            found = _WORD.findall(reader.tokenizer.decode(row[:length]))
            known = [word.lower() in reader.words for word in found]
            scores.append(np.mean(known) if known else 0.0)
        return np.array(scores)

    return reward


def _rows(config) -> int:
    return max(config.n_init // 2, 2)


def _length(config) -> int:
    return config.text_tokens - _PROMPT_LEN


def _compare(config, cfg: lm.LMConfig, params: Any, reader: _Reader, reward: Callable) -> dict:
    """Best-of-n_init and the search with one key per prompt: all scores [p, n], choices, cost."""
    policy, count, length = lm_policy(params, cfg), _rows(config), _length(config)
    settings = SpecRejConfig(
        max_new_tokens=length, capacity_tokens=count * (_PROMPT_LEN + _FIRST), n_init=count
    )
    scores, found, tokens, early = [], [], [], []
    for number, prompt in enumerate(progress(reader.prompts, "text")):
        key = jax.random.fold_in(study_key(config, 10), number)
        every = best_of_n(key, policy, reward, prompt, n=count, max_new_tokens=length)
        ours = speculative_rejection(key, policy, reward, prompt, settings)
        part = reward(prompt, every.all_tokens[:, :_EARLY], np.full(count, _EARLY, np.int32))
        scores.append(every.all_scores)
        found.append(ours.score)
        tokens.append(ours.tokens_computed)
        early.append(partial_final_correlation(part, every.all_scores)[0])
    return {
        "scores": np.array(scores),
        "found": np.array(found),
        "tokens": np.array(tokens),
        "early": np.array(early),
    }


def _cost(config, result: dict) -> tuple[float, str]:
    """(token ratio at equal reward, the rest to tell)."""
    scores, count = result["scores"], _rows(config)
    lost = scores.max(axis=1) - result["found"]
    scale = np.mean(scores.max(axis=1) - scores.mean(axis=1))
    n = equivalent_n(scores, expected_max(scores, count).mean() - lost.mean())
    ratio = n * _length(config) / result["tokens"].mean()
    same = np.mean(lost <= 1e-9 + 1e-4 * np.abs(result["found"]))
    return ratio, (
        f"N = {n:.0f} of {count}, regret {spread(lost)} of {scale:.3g}, same score in {same:.0%}, "
        f"Pearson {np.nanmean(result['early']):.2f} at {_EARLY} tokens"
    )
