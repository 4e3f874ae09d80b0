"""Synthetic documents with a hidden quality, and the gold reward that reads it off.

A document draws a topic and a quality theta ~ N(0, 1), then repeats "noun verb adjective adjective"
with the topic's noun, any verb, and adjectives whose level scatters around theta: level = round(2
(theta + sigma eps)), clipped to -8..8, worth half as much each. It never ends by itself. A model of
such text decides on a quality within a few words and then keeps it, so that the beginning of a
response tells its end.
"""

import numpy as np

from jaxlab import lm

PAD, BOS, EOS = 0, 1, 2
NUM_TOPICS, NUM_VERBS, MAX_LEVEL = 8, 4, 8
FIRST_TOPIC = 3
FIRST_NOUN = FIRST_TOPIC + NUM_TOPICS
FIRST_VERB = FIRST_NOUN + NUM_TOPICS
FIRST_LEVEL = FIRST_VERB + NUM_VERBS
VOCAB_SIZE = FIRST_LEVEL + 2 * MAX_LEVEL + 1


def sample_documents(
    rng: np.random.Generator, count: int, length: int, *, sigma: float, topic: int | None = None
) -> np.ndarray:
    """Documents [count, length] int32: begin-of-text, topic, sentences.

    topic: of all of them; None: drawn.
    """
    topics = rng.integers(NUM_TOPICS, size=count) if topic is None else np.full(count, topic)
    sentences = -(-length // 4)
    shape = (count, sentences)
    quality = rng.normal(size=(count, 1, 1))
    noise = rng.normal(size=(*shape, 2))
    levels = np.rint(2 * (quality + sigma * noise)).clip(-MAX_LEVEL, MAX_LEVEL).astype(int)
    words = np.concatenate(
        [
            np.broadcast_to(FIRST_NOUN + topics[:, None, None], (*shape, 1)),
            FIRST_VERB + rng.integers(NUM_VERBS, size=(*shape, 1)),
            FIRST_LEVEL + MAX_LEVEL + levels,
        ],
        axis=-1,
    )
    start = np.stack([np.full(count, BOS), FIRST_TOPIC + topics], axis=1)
    tokens = np.concatenate([start, words.reshape(count, -1)], axis=1)
    return tokens[:, :length].astype(np.int32)


def document_prompt(topic: int) -> np.ndarray:
    """[2]: begin-of-text and the topic."""
    return np.array([BOS, FIRST_TOPIC + topic], np.int32)


def gold_reward(prompt, responses, lengths) -> np.ndarray:
    """Mean value (level / 2, in -4..4) of a response's adjectives so far, 0 where it has none."""
    responses = np.asarray(responses)
    within = np.arange(responses.shape[1]) < np.asarray(lengths)[:, None]
    is_level = within & (responses >= FIRST_LEVEL)
    values = (responses - FIRST_LEVEL - MAX_LEVEL) / 2
    return np.where(is_level, values, 0).sum(axis=1) / np.maximum(is_level.sum(axis=1), 1)


def document_model(max_seq_len: int = 512) -> lm.LMConfig:
    """A two-layer model of 76,608 parameters for these documents."""
    return lm.LMConfig(
        vocab_size=VOCAB_SIZE,
        d_model=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        d_ff=128,
        max_seq_len=max_seq_len,
        tie_embeddings=True,
        bos_id=BOS,
        pad_id=PAD,
    )
