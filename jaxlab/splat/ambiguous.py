"""Analytic clouds whose surface shows in the Gaussians alone, never in their positions."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxlab.splat.features import normalize_cloud
from jaxlab.splat.rotations import normalize, rotation_about_z, rotmat_to_quat
from jaxlab.splat.types import CloudDataset, GaussianCloud

SHAPES = ("box", "cylinder", "sphere")
SURFACES = ("flat", "wire", "glass")
_NOISE = 0.02


def sample_ambiguous_clouds(
    key: jax.Array,
    *,
    objects_per_class: int = 40,
    num_points: int = 256,
    shapes: tuple[str, ...] = SHAPES,
    surfaces: tuple[str, ...] = SURFACES,
) -> CloudDataset:
    """Shapes times surfaces, with the best possible accuracies known.

    Positions, normals and sizes have one law for all surfaces; flat and glass share their scales
    and frames, flat and wire their opacities. With three shapes and three surfaces nobody can do
    better than 1/3 from positions, 2/3 with opacity or with scale and rotation, 1 with all.

    - flat: `s = (l, l LN(-0.2, 0.2), LN(log 0.02, 0.3))` with `l = LN(log 0.10, 0.3)`, the two long
      axes in the tangent plane, opacity `Beta(8, 2)`;
    - wire: `s = (l, r, r LN(0, 0.2))` with `l = LN(log 0.12, 0.3)`, `r = LN(log 0.02, 0.3)`, the
      long axis along one of two orthogonal tangents, opacity `Beta(8, 2)`;
    - glass: flat, with opacity `Beta(2, 8)`.

    Args:
      key: of everything.
      objects_per_class: for each pair of shape and surface.
      num_points: Gaussians of an object.
      shapes: of box, cylinder, sphere.
      surfaces: of flat, wire, glass.

    Returns:
      A `CloudDataset`, normalised, labelled `shape_index * len(surfaces) + surface_index`, with
      names such as `box_flat`.

    Raises:
      ValueError: an unknown shape or surface, or sizes below 1.
    """
    for what, given, known in (("shapes", shapes, SHAPES), ("surfaces", surfaces, SURFACES)):
        if not given or set(given) - set(known):
            raise ValueError(f"{what} must be some of {', '.join(known)}, got {tuple(given)}")
    if objects_per_class < 1 or num_points < 1:
        raise ValueError(
            f"objects_per_class and num_points must be >= 1, got {objects_per_class}, {num_points}"
        )
    names = tuple(f"{shape}_{surface}" for shape in shapes for surface in surfaces)
    labels = jnp.repeat(jnp.arange(len(names), dtype=jnp.int32), objects_per_class)
    cloud = _objects(key, labels, num_points, tuple(shapes), tuple(surfaces))
    return CloudDataset(cloud, labels, names)


@functools.partial(jax.jit, static_argnames=("num_points", "shapes", "surfaces"))
def _objects(key, labels, num_points: int, shapes: tuple[str, ...], surfaces: tuple[str, ...]):
    keys = jax.random.split(key, labels.shape[0])
    return jax.vmap(lambda key, label: _object(key, label, num_points, shapes, surfaces))(
        keys, labels
    )


def _object(key: jax.Array, label: jax.Array, num_points: int, shapes, surfaces) -> GaussianCloud:
    size_key, point_key, noise_key, turn_key, cover_key = jax.random.split(key, 5)
    sizes = jax.random.uniform(size_key, (3,), minval=0.7, maxval=1.3)
    points, normals, along = jax.lax.switch(
        label // len(surfaces),
        [functools.partial(_POINTS[shape], count=num_points) for shape in shapes],
        point_key,
    )
    # A stretched surface: tangents go with it, normals against it.
    points, along = points * sizes, along * sizes
    normals = normalize(normals / sizes)
    first = normalize(along - jnp.sum(along * normals, -1, keepdims=True) * normals)
    second = jnp.cross(normals, first)
    points += _NOISE * jax.random.normal(noise_key, points.shape)
    log_scales, angle, opacity = jax.lax.switch(
        label % len(surfaces),
        [functools.partial(_COVERS[name], count=num_points) for name in surfaces],
        cover_key,
    )
    c, s = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    frames = jnp.stack([c * first + s * second, c * second - s * first, normals], -1)
    turn = rotation_about_z(jax.random.uniform(turn_key, maxval=2 * math.pi))
    opacity = jnp.clip(opacity, 1e-3, 1 - 1e-3)
    cloud = GaussianCloud(
        points @ turn.T,
        log_scales,
        rotmat_to_quat(turn @ frames),
        jnp.log(opacity) - jnp.log1p(-opacity),
        jnp.zeros((num_points, 1, 3)),
    )
    return normalize_cloud(cloud)


def _box(key: jax.Array, count: int):
    """Points `[n, 3]`, normals and tangents on the cube `[-1, 1]^3`."""
    face_key, place_key = jax.random.split(key)
    face = jax.random.randint(face_key, (count,), 0, 6)
    axis = jax.nn.one_hot(face // 2, 3)
    normals = axis * jnp.where(face % 2 == 0, 1, -1)[:, None]
    points = jax.random.uniform(place_key, (count, 3), minval=-1.0)
    return jnp.where(axis > 0, normals, points), normals, jnp.roll(axis, 1, -1)


def _cylinder(key: jax.Array, count: int):
    """The unit cylinder with its two lids, `|z| <= 1`."""
    part_key, angle_key, height_key = jax.random.split(key, 3)
    part = jax.random.uniform(part_key, (count, 1))
    angle = jax.random.uniform(angle_key, (count,), maxval=2 * math.pi)
    height = jax.random.uniform(height_key, (count, 1), minval=-1.0)
    zero = jnp.zeros(count)
    outward = jnp.stack([jnp.cos(angle), jnp.sin(angle), zero], -1)
    around = jnp.stack([-jnp.sin(angle), jnp.cos(angle), zero], -1)
    up = jnp.array([0.0, 0, 1])
    lid = part < 1 / 3  # their share of the area
    side = jnp.where(part < 1 / 6, 1.0, -1.0) * up
    points = jnp.where(lid, jnp.sqrt(0.5 * (1 + height)) * outward + side, outward + height * up)
    return points, jnp.where(lid, side, outward), around


def _sphere(key: jax.Array, count: int):
    """The unit sphere, with tangents along the parallels."""
    points = normalize(jax.random.normal(key, (count, 3)))
    around = jnp.stack([-points[:, 1], points[:, 0], jnp.zeros(count)], -1)
    return points, points, around


def _lognormal(key: jax.Array, count: int, mean: float, deviation: float) -> jax.Array:
    """Logarithms of log-normal lengths."""
    return mean + deviation * jax.random.normal(key, (count,))


def _opacity(key: jax.Array, count: int, place: int) -> jax.Array:
    """`Beta(place, 10 - place)`: the `place`-th smallest of nine uniform numbers."""
    return jnp.sort(jax.random.uniform(key, (count, 9)), -1)[:, place - 1]


def _plate(key: jax.Array, count: int, place: int):
    """Log scales `[n, 3]`, angle of the first axis in the tangent plane, opacity."""
    keys = jax.random.split(key, 5)
    long = _lognormal(keys[0], count, math.log(0.10), 0.3)
    wide = long + _lognormal(keys[1], count, -0.2, 0.2)
    thin = _lognormal(keys[2], count, math.log(0.02), 0.3)
    angle = jax.random.uniform(keys[3], (count,), maxval=math.pi)
    return jnp.stack([long, wide, thin], -1), angle, _opacity(keys[4], count, place)


def _flat(key: jax.Array, count: int):
    return _plate(key, count, 8)


def _glass(key: jax.Array, count: int):
    return _plate(key, count, 2)


def _wire(key: jax.Array, count: int):
    keys = jax.random.split(key, 5)
    long = _lognormal(keys[0], count, math.log(0.12), 0.3)
    radius = _lognormal(keys[1], count, math.log(0.02), 0.3)
    other = radius + _lognormal(keys[2], count, 0.0, 0.2)
    angle = 0.5 * math.pi * jax.random.randint(keys[3], (count,), 0, 2)
    return jnp.stack([long, radius, other], -1), angle, _opacity(keys[4], count, 8)


_POINTS = {"box": _box, "cylinder": _cylinder, "sphere": _sphere}
_COVERS = {"flat": _flat, "wire": _wire, "glass": _glass}
