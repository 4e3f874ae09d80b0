"""Accuracy of a classifier, over all objects and per class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class ClsMetrics(NamedTuple):
    """How a classifier did.

    Attributes:
      oa: `()` overall accuracy.
      macc: `()` mean recall of the classes that occur.
      confusion: `[C, C]` int32 counts; the row is the true class, the column the predicted one.
      mean_prob: `[C, C]`, each row the mean softmax over that class (0 where it does not occur).
    """

    oa: jax.Array
    macc: jax.Array
    confusion: jax.Array
    mean_prob: jax.Array


def classification_metrics(logits: ArrayLike, labels: ArrayLike, num_classes: int) -> ClsMetrics:
    """Metrics of `logits` `[M, C]` against `labels` `[M]`.

    Raises:
      ValueError: shapes that do not belong together.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim != 2 or logits.shape != (*labels.shape, num_classes):
        raise ValueError(
            f"logits must be [M, {num_classes}] for labels [M], got {logits.shape} and "
            f"{labels.shape}"
        )
    truth = jax.nn.one_hot(labels, num_classes)  # [M, C]
    predicted = jax.nn.one_hot(logits.argmax(-1), num_classes)
    occurs = truth.sum(0)
    confusion = truth.T @ predicted
    recall = jnp.diagonal(confusion) / jnp.maximum(occurs, 1)
    present = occurs > 0
    return ClsMetrics(
        jnp.mean(logits.argmax(-1) == labels),
        jnp.sum(jnp.where(present, recall, 0)) / jnp.maximum(present.sum(), 1),
        jnp.round(confusion).astype(jnp.int32),
        truth.T @ jax.nn.softmax(logits, -1) / jnp.maximum(occurs, 1)[:, None],
    )
