"""A sampler without a model: token t of a row is a function of its key alone. Counts its calls."""

import jax
import numpy as np

from jaxlab.align import Policy

VOCAB = 12


def toy_policy(log: list | None = None, vocab: int = VOCAB) -> Policy:
    """Uniform tokens; appends (what, rows, size) of every call to `log`."""
    log = [] if log is None else log

    def start(row_keys, prompt, max_len):
        log.append(("start", len(row_keys), max_len))
        return row_keys, 0

    def extend(state, n_tokens):
        keys, step = state
        log.append(("extend", len(keys), n_tokens))
        steps = np.arange(step, step + n_tokens)
        return (
            (keys, step + n_tokens),
            toy_tokens(keys, steps, vocab),
            np.zeros((len(keys), n_tokens), np.float32),
        )

    def gather(state, rows, max_len, row_keys=None):
        keys, step = state
        log.append(("gather", len(rows), max_len))
        return (keys[rows] if row_keys is None else row_keys), step

    return Policy(start, extend, gather)


def toy_tokens(row_keys, steps, vocab: int = VOCAB) -> np.ndarray:
    """[n, len(steps)]: a hash of row key and step (splitmix64), so that nothing is compiled."""
    words = np.asarray(jax.random.key_data(row_keys), np.uint64)
    x = (words[:, :1] << np.uint64(32)) + words[:, 1:]
    x = x + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(steps, np.uint64) + np.uint64(1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(vocab)).astype(np.int32)


def sum_reward(prompt, responses, lengths):
    """Sum of the tokens of a response, with a fraction that tells equal sums apart."""
    within = np.arange(responses.shape[1]) < lengths[:, None]
    weights = 1 + 1e-3 * np.sin(np.arange(responses.shape[1]))
    return (np.where(within, responses, 0) * weights).sum(axis=1)


def mean_reward(prompt, responses, lengths):
    return sum_reward(prompt, responses, lengths) / lengths
