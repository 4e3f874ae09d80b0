"""A tiny causal model and batches that the tests of this room share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm, unlearn

VOCAB = 11


@functools.partial(jax.jit, inline=True)
def apply_fn(params, tokens):
    """Logits [B, T, V] of a causal bag of words: token t sees the mean embedding up to t."""
    return hidden_fn(params, tokens) @ params["head"]


def hidden_fn(params, tokens):
    """What the head of the same model sees, [B, T, D]."""
    x = params["embed"][tokens]
    steps = jnp.arange(1, tokens.shape[1] + 1)[:, None]
    return jnp.tanh(jnp.cumsum(x, 1) / steps + x)


def tiny_head(chunk_size):
    """The head of the same model, a chunk of positions at a time."""
    return unlearn.ChunkedHead(lambda params: params["head"], lambda w, x: x @ w, chunk_size)


def params(seed=0, width=6):
    keys = jax.random.split(jax.random.key(seed), 2)
    return {
        "embed": jax.random.normal(keys[0], (VOCAB, width)),
        "head": jax.random.normal(keys[1], (width, VOCAB)),
    }


def rows(seed, count=6, length=9):
    """An LMBatch with prompts, answers of different lengths and padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, (count, length)).astype(np.int32)
    labels = np.full_like(tokens, -100)
    for i in range(count):
        start, end = 2, 4 + i % (length - 4)
        labels[i, start:end] = tokens[i, start:end]
        tokens[i, end:] = 0
    return unlearn.LMBatch(tokens, labels)


def numpy_answers(params, batch):
    """(sum of log p over scored tokens, their number) of each row, in float64, by a plain loop."""
    embed, head = (np.asarray(params[name], np.float64) for name in ("embed", "head"))
    sums, counts = [], []
    for tokens, labels in zip(*map(np.asarray, batch), strict=True):
        total, count = 0.0, 0
        for t in range(1, len(tokens)):
            if labels[t] == -100:
                continue
            x = embed[tokens[:t]]
            logits = np.tanh(x.mean(0) + x[-1]) @ head
            total += logits[labels[t]] - np.log(np.exp(logits).sum())
            count += 1
        sums.append(total)
        counts.append(count)
    return np.array(sums), np.array(counts)


def tree_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def language_model(vocab_size, max_seq_len, **settings):
    """The config of a language model of one layer."""
    return lm.LMConfig(
        vocab_size=vocab_size,
        max_seq_len=max_seq_len,
        d_model=16,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        head_dim=8,
        d_ff=16,
        **settings,
    )
