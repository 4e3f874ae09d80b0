"""Space-filling curves: points as places on a line that visits a cube of cells."""

import jax
import jax.numpy as jnp

BITS = 10  # cells along an axis: 2^10


def to_cells(points: jax.Array) -> jax.Array:
    """Cells `[N, 3]` uint32 of `points` `[N, 3]` in the cube around them."""
    low = points.min(0)
    size = jnp.maximum((points.max(0) - low).max(), 1e-12)
    return jnp.clip((points - low) / size * 2**BITS, 0, 2**BITS - 1).astype(jnp.uint32)


def z_order(cells: jax.Array) -> jax.Array:
    """Places `[N]` uint32 on the z-order (Morton) curve: the bits of x, y, z in turn."""
    code = jnp.zeros(cells.shape[:-1], jnp.uint32)
    for bit in range(BITS):
        for axis in range(3):
            code |= ((cells[..., axis] >> bit) & 1) << (3 * bit + 2 - axis)
    return code


def hilbert_order(cells: jax.Array) -> jax.Array:
    """Places `[N]` uint32 on the Hilbert curve, where neighbours on the line share a face.

    Source: Skilling, "Programming the Hilbert curve" (2004), run over all points at once.
    """
    axes = [cells[..., axis] for axis in range(3)]
    for bit in reversed(range(1, BITS)):
        here, below = jnp.uint32(1 << bit), jnp.uint32((1 << bit) - 1)
        for axis in range(3):
            turned = (axes[axis] & here) != 0
            swap = jnp.where(turned, 0, (axes[0] ^ axes[axis]) & below)
            axes[0] = jnp.where(turned, axes[0] ^ below, axes[0] ^ swap)
            if axis:
                axes[axis] = axes[axis] ^ swap
    axes[1] = axes[1] ^ axes[0]
    axes[2] = axes[2] ^ axes[1]
    flips = jnp.zeros_like(axes[0])
    for bit in reversed(range(1, BITS)):
        flips ^= jnp.where((axes[2] >> bit) & 1, jnp.uint32((1 << bit) - 1), 0)
    return z_order(jnp.stack([axis ^ flips for axis in axes], -1))


def curve_order(points: jax.Array, curve: str, swapped: bool) -> jax.Array:
    """Indices `[N]` int32 that sort `points` `[N, 3]` along a curve, ties by coordinates.

    Args:
      points: of one object.
      curve: `"z"` or `"hilbert"`.
      swapped: exchanges x and y first.
    """
    points = points[:, [1, 0, 2]] if swapped else points
    code = (hilbert_order if curve == "hilbert" else z_order)(to_cells(points))
    index = jnp.arange(points.shape[0], dtype=jnp.int32)
    return jax.lax.sort((code, *points.T, index), num_keys=4)[-1]
