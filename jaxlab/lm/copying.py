"""The copy task: random words, a separator, and the same words again, to be copied by looking up.

A model without attention cannot copy; two layers that find where the last token stood before and
take what followed it (induction) can.
"""

import numpy as np

SEPARATOR = 0


def copy_batch(
    seed: int, step: int, batch_size: int, *, length: int, vocab_size: int
) -> dict[str, np.ndarray]:
    """A batch of the copy task, a function of seed and step.

    Returns:
      `tokens` [B, 2 length + 1] int32: `length` random ids in [1, vocab_size), the separator 0,
      the same ids; `loss_mask` bool of the same shape, on the copy.

    Raises:
      ValueError: length < 1 or vocab_size < 3.
    """
    if length < 1 or vocab_size < 3:
        raise ValueError(f"length must be >= 1 and vocab_size >= 3, got {length} and {vocab_size}")
    rng = np.random.default_rng((seed, step))
    words = rng.integers(1, vocab_size, (batch_size, length), dtype=np.int32)
    separators = np.full((batch_size, 1), SEPARATOR, np.int32)
    tokens = np.concatenate([words, separators, words], axis=1)
    loss_mask = np.zeros(tokens.shape, bool)
    loss_mask[:, length + 1 :] = True
    return {"tokens": tokens, "loss_mask": loss_mask}
