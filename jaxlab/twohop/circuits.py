"""The two mechanisms written out as weights: exact oracles for every observable.

The residual stream is a row of blocks, each as wide as the vocabulary (or the sequence), and every
matrix moves one block into another.
"""

import jax.numpy as jnp
import numpy as np

from jaxlab.twohop.model import ModelConfig, Params
from jaxlab.twohop.task import TaskConfig


class _Blocks:
    """Slices of a residual stream by name."""

    def __init__(self, **widths: int):
        ends = np.cumsum(list(widths.values()))
        starts = ends - list(widths.values())
        self.dim = int(ends[-1])
        self._slices = {
            name: slice(start, end) for name, start, end in zip(widths, starts, ends, strict=True)
        }

    def __getitem__(self, name: str) -> slice:
        return self._slices[name]

    def zeros(self) -> np.ndarray:
        return np.zeros((self.dim, self.dim), np.float32)

    def move(self, *moves: tuple[str, str, float]) -> np.ndarray:
        """A matrix that adds `factor` times block `source` to block `target` of the output."""
        matrix = self.zeros()
        for source, target, factor in moves:
            rows, columns = self[source], self[target]
            matrix[rows, columns] += factor * np.eye(rows.stop - rows.start, dtype=np.float32)
        return matrix


def sequential_query_params(task: TaskConfig, scale: float = 30.0) -> tuple[Params, ModelConfig]:
    """Weights that answer every problem by the sequential query.

    Layer 1: each child stores its parent. Layer 2: the query finds the child of the source, the
    bridge. Layer 3: it finds the child of the bridge, the end.

    Args:
      task: sizes.
      scale: sharpness of the attention and of the answer.

    Returns:
      `(params, config)` for `forward`.
    """
    V, T = task.n_tokens, task.seq_len
    blocks = _Blocks(token=V, position=T, parent=V, bridge=V, out=V)
    config = _config(task, blocks)
    sharp = scale * blocks.dim**0.5  # attention divides by the root of the width
    identity = np.eye(blocks.dim, dtype=np.float32)

    def layer(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> dict[str, np.ndarray]:
        return {"wq": sharp * query, "wk": key, "wv": identity, "wo": value}

    layers = (
        layer(
            _parent_query(blocks, task),
            blocks.move(("position", "position", 1)),
            blocks.move(("token", "parent", 1)),
        ),
        layer(
            blocks.move(("token", "token", 1)),
            blocks.move(("parent", "token", 1)),
            blocks.move(("token", "bridge", 1)),
        ),
        layer(
            blocks.move(("bridge", "bridge", 1)),
            blocks.move(("parent", "bridge", 1)),
            blocks.move(("token", "out", 1)),
        ),
    )
    return _params(blocks, config, layers, scale), config


def random_guess_params(task: TaskConfig, scale: float | None = None) -> tuple[Params, ModelConfig]:
    """Weights that give every end in the context the same probability, whatever is asked.

    Each child carries itself minus its parent; the query attends to all children alike, bridges
    cancel, and the ends remain: probability 1/(K + M) each.

    Args:
      task: sizes.
      scale: sharpness; by default 20 times the number of premises, over which attention averages.

    Returns:
      `(params, config)` for `forward`.
    """
    V, T = task.n_tokens, task.seq_len
    scale = 20.0 * task.n_premises if scale is None else scale
    blocks = _Blocks(token=V, position=T, parent=V, out=V)
    config = _config(task, blocks)
    identity, nothing = np.eye(blocks.dim, dtype=np.float32), blocks.zeros()
    sharp = scale * blocks.dim**0.5
    constant, children = blocks.zeros(), blocks.zeros()
    anchor = blocks["position"].start
    constant[blocks["position"], anchor] = 1
    children[blocks["position"], anchor] = _is_child(task)
    layers = (
        {
            "wq": sharp * _parent_query(blocks, task),
            "wk": blocks.move(("position", "position", 1)),
            "wv": identity,
            "wo": blocks.move(("token", "parent", -1)),
        },
        {"wq": nothing, "wk": nothing, "wv": nothing, "wo": nothing},
        {
            "wq": sharp * constant,
            "wk": children,
            "wv": identity,
            "wo": blocks.move(("token", "out", 1), ("parent", "out", 1)),
        },
    )
    return _params(blocks, config, layers, scale), config


def _is_child(task: TaskConfig) -> np.ndarray:
    position = np.arange(task.seq_len)
    return (position % 2 == 0) & (position > 0) & (position < task.seq_len - 1)


def _parent_query(blocks: _Blocks, task: TaskConfig) -> np.ndarray:
    """Positions of children look one back, all others at the first token."""
    matrix = blocks.zeros()
    start = blocks["position"].start
    for position, child in enumerate(_is_child(task)):
        matrix[start + position, start + (position - 1 if child else 0)] = 1
    return matrix


def _config(task: TaskConfig, blocks: _Blocks) -> ModelConfig:
    return ModelConfig(
        n_tokens=task.n_tokens, max_len=task.seq_len, dim=blocks.dim, n_layers=3, norm="none"
    )


def _params(blocks: _Blocks, config: ModelConfig, layers, scale: float) -> Params:
    token = np.zeros((config.n_tokens, blocks.dim), np.float32)
    token[:, blocks["token"]] = np.eye(config.n_tokens)
    position = np.zeros((config.max_len, blocks.dim), np.float32)
    position[:, blocks["position"]] = np.eye(config.max_len)
    unembed = np.zeros((blocks.dim, config.n_tokens), np.float32)
    unembed[blocks["out"]] = scale * np.eye(config.n_tokens)
    return {
        "tok": jnp.asarray(token),
        "pos": jnp.asarray(position),
        "unembed": jnp.asarray(unembed),
        "layers": tuple({name: jnp.asarray(w) for name, w in layer.items()} for layer in layers),
    }
