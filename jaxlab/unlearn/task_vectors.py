"""Unlearning by arithmetic on weights: subtract what fine-tuning on the forget set adds.

Source: Ilharco et al., "Editing Models with Task Arithmetic", arXiv 2212.04089.
"""

from typing import Any

import jax


def task_vector(finetuned: Any, pretrained: Any) -> Any:
    """finetuned - pretrained, leaf by leaf.

    Raises:
      ValueError: trees of different structure.
    """
    return jax.tree.map(lambda after, before: after - before, finetuned, pretrained)


def apply_task_vector(params: Any, vector: Any, *, alpha: float) -> Any:
    """params + alpha * vector; a negative alpha forgets what the vector's fine-tuning learned.

    Raises:
      ValueError: trees of different structure.
    """
    return jax.tree.map(lambda p, v: p + alpha * v, params, vector)
