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
    # Few and large draws: each one is a program of its own to the compiler.
    size_key, uniform_key, normal_key = jax.random.split(key, 3)
    *sizes, angle = jax.random.uniform(size_key, (4,))
    uniform = jax.random.uniform(uniform_key, (13, num_points))
    normal = jax.random.normal(normal_key, (6, num_points))
    sizes = 0.7 + 0.6 * jnp.stack(sizes)
    points, normals, along = jax.lax.switch(
        label // len(surfaces), [_POINTS[shape] for shape in shapes], *uniform[:3]
    )
    # A stretched surface: tangents go with it, normals against it.
    points, along = points * sizes, along * sizes
    normals = normalize(normals / sizes)
    first = normalize(along - jnp.sum(along * normals, -1, keepdims=True) * normals)
    second = jnp.cross(normals, first)
    points += _NOISE * normal[:3].T
    log_scales, turned = jax.lax.switch(
        label % len(surfaces), [_COVERS[name] for name in surfaces], uniform[3], normal[3:]
    )
    c, s = jnp.cos(turned)[:, None], jnp.sin(turned)[:, None]
    frames = jnp.stack([c * first + s * second, c * second - s * first, normals], -1)
    # Beta(k, 10 - k) is the law of the k-th smallest of nine uniform numbers.
    place = jnp.array([_PLACES[name] for name in surfaces])[label % len(surfaces)]
    opacity = jnp.clip(jnp.sort(uniform[4:], 0)[place - 1], 1e-3, 1 - 1e-3)
    turn = rotation_about_z(2 * math.pi * angle)
    cloud = GaussianCloud(
        points @ turn.T,
        log_scales,
        rotmat_to_quat(turn @ frames),
        jnp.log(opacity) - jnp.log1p(-opacity),
        jnp.zeros((num_points, 1, 3)),
    )
    return normalize_cloud(cloud)


def _box(which: jax.Array, a: jax.Array, b: jax.Array):
    """Points `[n, 3]`, normals and tangents on the cube `[-1, 1]^3`, from uniform numbers."""
    face = jnp.minimum((6 * which).astype(jnp.int32), 5)
    axis = jax.nn.one_hot(face // 2, 3)
    normals = axis * jnp.where(face % 2 == 0, 1.0, -1.0)[:, None]
    along, across = jnp.roll(axis, 1, -1), jnp.roll(axis, 2, -1)
    points = normals + (2 * a - 1)[:, None] * along + (2 * b - 1)[:, None] * across
    return points, normals, along


def _cylinder(which: jax.Array, a: jax.Array, b: jax.Array):
    """The unit cylinder with its two lids, `|z| <= 1`."""
    angle = 2 * math.pi * a
    zero = jnp.zeros_like(a)
    outward = jnp.stack([jnp.cos(angle), jnp.sin(angle), zero], -1)
    around = jnp.stack([-jnp.sin(angle), jnp.cos(angle), zero], -1)
    up = jnp.array([0.0, 0, 1])
    lid = (which < 1 / 3)[:, None]  # their share of the area
    side = jnp.where(which < 1 / 6, 1.0, -1.0)[:, None] * up
    mantle = outward + (2 * b - 1)[:, None] * up
    points = jnp.where(lid, jnp.sqrt(b)[:, None] * outward + side, mantle)
    return points, jnp.where(lid, side, outward), around


def _sphere(_: jax.Array, a: jax.Array, b: jax.Array):
    """The unit sphere, with tangents along the parallels."""
    angle, height = 2 * math.pi * a, 2 * b - 1
    radius = jnp.sqrt(1 - height**2)
    points = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle), height], -1)
    around = jnp.stack([-jnp.sin(angle), jnp.cos(angle), jnp.zeros_like(a)], -1)
    return points, points, around


def _plate(uniform: jax.Array, normal: jax.Array):
    """Log scales `[n, 3]` and the angle of the first axis in the tangent plane."""
    long = math.log(0.10) + 0.3 * normal[0]
    wide = long - 0.2 + 0.2 * normal[1]
    thin = math.log(0.02) + 0.3 * normal[2]
    return jnp.stack([long, wide, thin], -1), math.pi * uniform


def _wire(uniform: jax.Array, normal: jax.Array):
    long = math.log(0.12) + 0.3 * normal[0]
    radius = math.log(0.02) + 0.3 * normal[1]
    angle = jnp.where(uniform < 0.5, 0.0, math.pi / 2)
    return jnp.stack([long, radius, radius + 0.2 * normal[2]], -1), angle


_POINTS = {"box": _box, "cylinder": _cylinder, "sphere": _sphere}
_COVERS = {"flat": _plate, "wire": _wire, "glass": _plate}
_PLACES = {"flat": 8, "wire": 8, "glass": 2}
