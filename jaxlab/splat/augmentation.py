"""Random rigid motions of a cloud, its frames and colours included."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxlab.arrays import is_concrete, is_zero
from jaxlab.checks import check_choice
from jaxlab.splat.geometry import transform_cloud
from jaxlab.splat.rotations import random_rotation, rotation_about_z
from jaxlab.splat.types import GaussianCloud

ROTATIONS = ("z", "so3", "none")


def augment_cloud(
    key: jax.Array,
    cloud: GaussianCloud,
    *,
    rotate: str = "z",
    scale_range: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.0,
    jitter_std: float = 0.0,
) -> GaussianCloud:
    """A randomly turned, scaled and shifted cloud; each of a batch moves by itself.

    A turn acts on means, quaternions and colours, a change of size on means and scales. Jitter
    moves the means alone.

    Args:
      key: of the motion.
      cloud: one cloud or a batch of them.
      rotate: `"z"` about the vertical, `"so3"` any, `"none"`.
      scale_range: factors are uniform between the two.
      translate: shifts are uniform in plus and minus this, along each axis.
      jitter_std: deviation of independent noise on the means.

    Raises:
      ValueError: an unknown `rotate`, or a range that is not positive and ascending.
    """
    check_choice("rotate", rotate, ROTATIONS)
    low, high = scale_range
    static = is_concrete(low, high)
    if static and not 0 < low <= high:
        raise ValueError(f"scale_range must be positive and ascending, got {scale_range}")
    cloud = jax.tree.map(jnp.asarray, cloud)
    batch = cloud.means.shape[:-2]
    if batch:
        one = functools.partial(
            augment_cloud,
            rotate=rotate,
            scale_range=scale_range,
            translate=translate,
            jitter_std=jitter_std,
        )
        return jax.vmap(one)(jax.random.split(key, batch[0]), cloud)
    turn_key, scale_key, shift_key, jitter_key = jax.random.split(key, 4)
    rotation = None
    if rotate == "z":
        rotation = rotation_about_z(jax.random.uniform(turn_key, maxval=2 * math.pi))
    elif rotate == "so3":
        rotation = random_rotation(turn_key)
    moved = transform_cloud(
        cloud,
        rotation=rotation,
        scale=low
        if static and low == high
        else jax.random.uniform(scale_key, minval=low, maxval=high),
        translation=None
        if is_zero(translate)
        else jax.random.uniform(shift_key, (3,), minval=-translate, maxval=translate),
    )
    if is_zero(jitter_std):
        return moved
    noise = jitter_std * jax.random.normal(jitter_key, moved.means.shape, moved.means.dtype)
    return moved._replace(means=moved.means + noise)
