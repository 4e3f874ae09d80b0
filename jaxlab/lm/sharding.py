"""How parameters lie on a mesh of fully-sharded data parallelism x tensor parallelism."""

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxlab.lm.config import LMConfig
from jaxlab.lm.params import param_shapes

_COLUMNS = ("wq", "wk", "wv", "w_up", "w_gate")
_COLUMN_BIASES = ("bq", "bk", "bv", "b_up", "b_gate")
_ROWS = ("wo", "w_down")


def param_specs(
    cfg: LMConfig,
    params: dict | None,
    *,
    fsdp_axis: str | None = "fsdp",
    tensor_axis: str | None = "tensor",
    mesh: Mesh | None = None,
):
    """A PartitionSpec for every parameter; params None takes the shapes that `cfg` implies.

    The tensor axis splits embeddings over the vocabulary, matrices into heads and d_ff (and
    their biases) by columns, and matrices out of them by rows; the fsdp axis splits the other
    side; norms are replicated. The batch goes over P(("data", "fsdp")) or P("fsdp"). With a
    `mesh` (or under `jax.set_mesh`) an axis that does not divide its dimension is left out;
    None leaves an axis out everywhere.
    """
    sizes = dict(mesh.shape) if mesh is not None else dict(jax.sharding.get_abstract_mesh().shape)

    shapes = param_shapes(cfg) if params is None else jax.tree.map(lambda leaf: leaf.shape, params)

    def spec(path, shape):
        keys = tuple(key.key for key in path)
        axes = _axes(keys, fsdp_axis, tensor_axis)
        axes = (None,) * (len(shape) - len(axes)) + axes
        return P(
            *(
                axis if size % sizes.get(axis, 1) == 0 else None
                for size, axis in zip(shape, axes, strict=True)
            )
        )

    return jax.tree_util.tree_map_with_path(spec, shapes, is_leaf=lambda x: isinstance(x, tuple))


def _axes(keys: tuple[str, ...], fsdp: str | None, tensor: str | None) -> tuple:
    """The axes of the trailing dimensions of a parameter; dimensions before them are whole."""
    name = keys[-1]
    if keys[0] in ("embed", "pos_embed"):
        return (tensor, fsdp)
    if keys[0] == "score":
        return (fsdp, None)
    if keys[0] == "head":
        return (fsdp, tensor) if name == "w" else (tensor,)
    if name in _COLUMNS:
        return (fsdp, tensor)
    if name in _ROWS:
        return (tensor, fsdp)
    if name in _COLUMN_BIASES:
        return (tensor,)
    return ()
