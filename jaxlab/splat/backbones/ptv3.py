"""Point Transformer V3, adapted to static shapes: attention along space-filling curves."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlab.splat.backbones.curves import curve_order
from jaxlab.splat.backbones.layers import Head, max_pool, neighbor_indices, take

_ORDERS = (("z", False), ("z", True), ("hilbert", False), ("hilbert", True))


class PatchAttention(nn.Module):
    """Multi-head attention within patches of consecutive points `[B, N, C]`.

    The last patch is filled by wrapping around, so that all patches have one size.
    """

    heads: int
    patch: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, count, width = x.shape
        patch = min(self.patch, count)
        patches = -(-count // patch)
        wrapped = x[:, jnp.arange(patches * patch) % count].reshape(batch, patches, patch, width)
        query, key, value = (
            nn.DenseGeneral((self.heads, width // self.heads), name=name)(wrapped)
            for name in ("query", "key", "value")
        )
        attended = jax.nn.dot_product_attention(
            *(t.reshape(batch * patches, patch, self.heads, -1) for t in (query, key, value))
        )
        attended = attended.reshape(batch, patches * patch, width)[:, :count]
        return nn.Dense(width, name="out")(attended)


class Block(nn.Module):
    """A positional term from the neighbours, attention along one curve, and an MLP."""

    heads: int
    patch: int

    @nn.compact
    def __call__(self, x, near, order) -> jax.Array:
        width = x.shape[-1]
        x = x + nn.Dense(width)(take(x, near).mean(2))
        along = take(nn.LayerNorm()(x), order)
        x = x + take(PatchAttention(self.heads, self.patch)(along), jnp.argsort(order, -1))
        return x + nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))


class PTv3(nn.Module):
    """Wu et al., "Point Transformer V3" (CVPR 2024), arXiv 2312.10035, with static shapes.

    Two things differ from the original, whose voxels are sparse: the positional term averages the
    16 nearest points instead of convolving a 3^3 neighbourhood, and pooling merges pairs of
    neighbours along the z-order curve instead of cells.

    Attributes:
      depths, widths, heads: of the stages; each but the first halves the points.
      patch: points that attend to each other.
      neighbors: of the positional term.
    """

    num_classes: int
    dropout: float
    axis_name: str | None = None
    positions_in_features: bool = True
    depths: Sequence[int] = (2, 2, 2, 6, 2)
    widths: Sequence[int] = (32, 64, 128, 256, 512)
    heads: Sequence[int] = (2, 4, 8, 16, 32)
    patch: int = 128
    neighbors: int = 16
    head: Sequence[int] = (256,)

    @nn.compact
    def __call__(self, positions: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        """Scores `[B, num_classes]` of positions `[B, N, 3]` and features `[B, N, C]`."""
        x = nn.gelu(nn.LayerNorm()(nn.Dense(self.widths[0])(features)))
        used = 0
        for stage, depth in enumerate(self.depths):
            if stage > 0:
                positions, x = self._pool(positions, x, self.widths[stage])
            near = neighbor_indices(positions, positions, self.neighbors)
            turns = [(used + index) % len(_ORDERS) for index in range(depth)]
            orders = {turn: _order_of(positions, _ORDERS[turn]) for turn in set(turns)}
            for turn in turns:
                x = Block(self.heads[stage], self.patch)(x, near, orders[turn])
            used += depth
        x = nn.LayerNorm()(x).mean(1)
        return Head(
            self.head,
            self.num_classes,
            self.dropout,
            self.axis_name,
            dropped=1,
            activation=nn.gelu,
        )(x, train)

    def _pool(self, positions, x, width: int):
        """Pairs of neighbours on the curve: mean of positions, maximum of a linear map."""
        order = _order_of(positions, _ORDERS[0])
        count = positions.shape[1]
        pairs = jnp.arange(count + count % 2).reshape(-1, 2) % count
        positions = take(positions, order)[:, pairs].mean(2)
        x = max_pool(take(nn.Dense(width)(x), order)[:, pairs], 2)
        return positions, nn.gelu(nn.LayerNorm()(x))


def _order_of(positions: jax.Array, order: tuple[str, bool]) -> jax.Array:
    still = jax.lax.stop_gradient(positions)
    return jax.vmap(lambda points: curve_order(points, *order))(still)
