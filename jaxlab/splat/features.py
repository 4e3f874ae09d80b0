"""What a classifier sees of a cloud: normalised, sampled, and as channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.checks import check_choice
from jaxlab.splat.harmonics import C0
from jaxlab.splat.neighbors import farthest_point_sample
from jaxlab.splat.rotations import normalize, upper_half
from jaxlab.splat.types import GaussianCloud

_NO_EXTENT = 1e-6  # of the largest coordinate
FEATURES = {"p": 3, "o": 1, "s": 3, "q": 4, "c": 3}
METHODS = ("random", "fps")


def num_features(feature_set: str) -> int:
    """Channels of a feature set: 3 for `"p"`, 11 for `"posq"`.

    Raises:
      ValueError: as `build_features`.
    """
    return sum(FEATURES[letter] for letter in ordered_letters(feature_set))


def ordered_letters(feature_set: str) -> str:
    """The letters in the order of the channels.

    Raises:
      ValueError: no letters, an unknown letter, or one that comes twice.
    """
    unknown = sorted(set(feature_set) - FEATURES.keys())
    if not feature_set or unknown or len(set(feature_set)) < len(feature_set):
        raise ValueError(
            f"feature_set must hold letters of {', '.join(FEATURES)}, each at most once, got "
            f"{feature_set!r}"
        )
    return "".join(letter for letter in FEATURES if letter in feature_set)


def build_features(cloud: GaussianCloud, feature_set: str) -> jax.Array:
    """Channels `[..., N, C]`, always in the order position, opacity, scale, rotation, colour.

    Args:
      cloud: one cloud or a batch of them.
      feature_set: letters, in any order: `p` mean (3), `o` opacity (1), `s` log scales (3), `q`
        unit quaternion with `w >= 0` (4), `c` colour of the first band (3).

    Raises:
      ValueError: no letters, an unknown letter, or one that comes twice.

    Source: Zhang et al., "Mitigating Ambiguities in 3D Classification with Gaussian Splatting".
    """
    cloud = jax.tree.map(jnp.asarray, cloud)
    channels = {
        "p": lambda: cloud.means,
        "o": lambda: jax.nn.sigmoid(cloud.opacity_logits)[..., None],
        "s": lambda: cloud.log_scales,
        "q": lambda: upper_half(normalize(cloud.quats)),
        "c": lambda: C0 * cloud.sh[..., 0, :] + 0.5,
    }
    return jnp.concatenate([channels[x]() for x in ordered_letters(feature_set)], -1)


def normalize_cloud(cloud: GaussianCloud) -> GaussianCloud:
    """Centroid at the origin, largest distance 1; scales are lengths and shrink with it.

    Args:
      cloud: one cloud or a batch of them. One without extent is only centred.

    Returns:
      The same kind of arrays: NumPy stays NumPy, so that a folder of clouds of all sizes is read
      without a program for each.
    """
    xp = jnp if isinstance(cloud.means, jax.Array) else np
    means = cloud.means - cloud.means.mean(-2, keepdims=True)
    square = xp.max(xp.sum(means**2, -1), -1)[..., None, None]
    # What rounding leaves of equal means is no extent.
    largest = xp.max(xp.abs(cloud.means), (-2, -1))[..., None, None]
    radius = xp.sqrt(xp.where(square > (_NO_EXTENT * largest) ** 2, square, 1))
    return cloud._replace(means=means / radius, log_scales=cloud.log_scales - xp.log(radius))


def subsample_cloud(
    key: jax.Array,
    cloud: GaussianCloud,
    num_points: int,
    *,
    method: str = "random",
    min_opacity: float = 0.0,
) -> GaussianCloud:
    """`num_points` Gaussians of each cloud, without replacement.

    Args:
      key: of the random choice.
      cloud: one cloud or a batch of them, each sampled by itself.
      num_points: at most the number of Gaussians.
      method: `"random"`, or `"fps"` for farthest points.
      min_opacity: fainter Gaussians are taken only where the others are too few.

    Raises:
      ValueError: more points than Gaussians, or an unknown method.
    """
    check_choice("method", method, METHODS)
    cloud = jax.tree.map(jnp.asarray, cloud)
    *batch, count = cloud.opacity_logits.shape
    if not 1 <= num_points <= count:
        raise ValueError(f"num_points must be 1 to {count} Gaussians, got {num_points}")
    if batch:
        one = functools.partial(
            subsample_cloud, num_points=num_points, method=method, min_opacity=min_opacity
        )
        return jax.vmap(one)(jax.random.split(key, batch[0]), cloud)
    eligible = jax.nn.sigmoid(cloud.opacity_logits) >= min_opacity
    if method == "fps":
        chosen = farthest_point_sample(cloud.means, num_points, eligible=eligible)
    else:
        score = jax.random.uniform(key, (count,)) + eligible
        chosen = jax.lax.top_k(score, num_points)[1]
    return jax.tree.map(lambda x: x[chosen], cloud)
