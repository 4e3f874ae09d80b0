"""Objects of plates and wires: the same shape as walls, as a cage, as glass, as mirrors."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.checks import check_choice

SHAPES = ("box", "cylinder", "sphere")
SURFACES = ("flat", "wire", "glass", "mirror")

_STRIPS = 16
_LATITUDES = 8
_GLASS_ALPHA = 0.25
_MIRROR = 0.9
_WIRE_RADIUS = 0.035


class ObjectSpec(NamedTuple):
    """Plates `c + a u + b v` with `|a|, |b| <= 1`, and opaque wires from `a` to `b`.

    Attributes:
      plate_center, plate_u, plate_v: `[P, 3]`; `u` and `v` are orthogonal half edges.
      plate_alpha: `[P]` opacity.
      plate_color: `[P, 3]` in 0..1.
      plate_texture: `[P]` amplitude of the checker pattern.
      wire_a, wire_b: `[W, 3]` ends.
      wire_radius: `[W]`.
      wire_color: `[W, 3]`.
      plate_mirror: `[P]` share of the mirrored environment, or None for none.
    """

    plate_center: jax.Array
    plate_u: jax.Array
    plate_v: jax.Array
    plate_alpha: jax.Array
    plate_color: jax.Array
    plate_texture: jax.Array
    wire_a: jax.Array
    wire_b: jax.Array
    wire_radius: jax.Array
    wire_color: jax.Array
    plate_mirror: jax.Array | None = None


def make_object(key: jax.Array, shape: str, surface: str, *, texture: float = 0.1) -> ObjectSpec:
    """A random object: stretched along its axes, turned about z, with a colour of its own.

    The four surfaces of one key have the same envelope.

    Args:
      key: decides sizes, turn and colours.
      shape: `"box"` (open at the top), `"cylinder"` (open at both ends) or `"sphere"`; curved ones
        are made of 16 strips around.
      surface: `"flat"` (opaque plates), `"wire"` (a cage on the same surface), `"glass"` (clear
        plates) or `"mirror"`.
      texture: amplitude of the checker pattern on plates.

    Raises:
      ValueError: an unknown shape or surface.
    """
    check_choice("shape", shape, SHAPES)
    check_choice("surface", surface, SURFACES)
    size_key, turn_key, color_key, shade_key = jax.random.split(key, 4)
    sizes = 0.6 * jax.random.uniform(size_key, (3,), minval=0.7, maxval=1.3)
    angle = jax.random.uniform(turn_key, maxval=2 * math.pi)
    c, s = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    color = jax.random.uniform(color_key, (3,), minval=0.25, maxval=0.95)

    def shaded(key, count):
        shift = jax.random.uniform(key, (count, 1), minval=-0.15, maxval=0.15)
        return jnp.clip(color + shift, 0, 1)

    if surface == "wire":
        a, b = (jnp.asarray(x) * sizes @ turn.T for x in _WIRES[shape]())
        count = len(a)
        none = jnp.zeros((0, 3))
        return ObjectSpec(
            none,
            none,
            none,
            jnp.zeros(0),
            none,
            jnp.zeros(0),
            a,
            b,
            jnp.full(count, _WIRE_RADIUS),
            shaded(shade_key, count),
        )
    center, u, v = (jnp.asarray(x) * sizes @ turn.T for x in _PLATES[shape]())
    v = v - u * (jnp.sum(u * v, -1) / jnp.sum(u * u, -1))[:, None]  # stretching may have tilted it
    count = len(center)
    none = jnp.zeros((0, 3))
    return ObjectSpec(
        center,
        u,
        v,
        jnp.full(count, _GLASS_ALPHA if surface == "glass" else 1.0),
        shaded(shade_key, count),
        jnp.full(count, texture),
        none,
        none,
        jnp.zeros(0),
        none,
        jnp.full(count, _MIRROR) if surface == "mirror" else None,
    )


def _box_plates():
    """Floor and four walls of the cube `[-1, 1]^3`."""
    x, y, z = np.eye(3)
    center = np.array([-z, x, -x, y, -y])
    return center, np.array([x, y, y, x, x]), np.array([y, z, z, z, z])


def _box_wires():
    """Each of the five faces as a grid of four by four lines."""
    lines = np.linspace(-1, 1, 4)
    starts, ends = [], []
    for center, u, v in zip(*_box_plates(), strict=True):
        for t in lines:
            starts += [center + t * u - v, center + t * v - u]
            ends += [center + t * u + v, center + t * v + u]
    return np.array(starts), np.array(ends)


def _circle(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on the unit circle and tangents there, `[count, 3]` each."""
    angle = 2 * np.pi * np.arange(count) / count
    zero = np.zeros(count)
    return (
        np.stack([np.cos(angle), np.sin(angle), zero], -1),
        np.stack([-np.sin(angle), np.cos(angle), zero], -1),
    )


def _cylinder_plates():
    outward, along = _circle(_STRIPS)
    return outward, along * np.tan(np.pi / _STRIPS), np.tile([0.0, 0, 1], (_STRIPS, 1))


def _cylinder_wires():
    """Eight uprights and four rings of sixteen segments."""
    post, _ = _circle(8)
    up = np.array([0.0, 0, 1])
    corners, _ = _circle(_STRIPS)
    rings = [corners + z * up for z in np.linspace(-1, 1, 4)]
    starts = np.concatenate([post - up, *rings])
    ends = np.concatenate([post + up, *(np.roll(ring, -1, axis=0) for ring in rings)])
    return starts, ends


def _sphere_plates():
    """Eight rings of sixteen plates, each as wide as its ring is at its wider edge."""
    outward, along = _circle(_STRIPS)
    up, half = np.array([0.0, 0, 1]), np.pi / (2 * _LATITUDES)
    center, u, v = [], [], []
    for latitude in -np.pi / 2 + half * (2 * np.arange(_LATITUDES) + 1):
        widest = np.cos(max(abs(latitude) - half, 0))
        center.append(np.cos(latitude) * outward + np.sin(latitude) * up)
        u.append(along * widest * np.tan(np.pi / _STRIPS))
        v.append(np.tan(half) * (np.cos(latitude) * up - np.sin(latitude) * outward))
    return np.concatenate(center), np.concatenate(u), np.concatenate(v)


def _sphere_wires():
    """Five rings of sixteen segments and eight meridians of eight."""
    outward, _ = _circle(_STRIPS)
    up = np.array([0.0, 0, 1])
    starts, ends = [], []
    for latitude in np.linspace(-np.pi / 2, np.pi / 2, 7)[1:-1]:
        ring = np.cos(latitude) * outward + np.sin(latitude) * up
        starts.append(ring)
        ends.append(np.roll(ring, -1, axis=0))
    bends = np.linspace(-np.pi / 2, np.pi / 2, 9)
    for direction in outward[::2]:
        meridian = np.cos(bends)[:, None] * direction + np.sin(bends)[:, None] * up
        starts.append(meridian[:-1])
        ends.append(meridian[1:])
    return np.concatenate(starts), np.concatenate(ends)


_PLATES = {"box": _box_plates, "cylinder": _cylinder_plates, "sphere": _sphere_plates}
_WIRES = {"box": _box_wires, "cylinder": _cylinder_wires, "sphere": _sphere_wires}


def sample_surface(key: jax.Array, obj: ObjectSpec, num_points: int) -> jax.Array:
    """Points `[num_points, 3]` on plates and wires, uniform by area."""
    piece_key, place_key, around_key = jax.random.split(key, 3)
    spans = obj.wire_b - obj.wire_a
    lengths = jnp.linalg.norm(spans, axis=-1)
    edges = [jnp.linalg.norm(x, axis=-1) for x in (obj.plate_u, obj.plate_v)]
    # Plates count once for each side's half: what matters is the ratio to the wires' mantles.
    areas = jnp.concatenate([4 * edges[0] * edges[1], 2 * math.pi * obj.wire_radius * lengths])
    piece = jax.random.categorical(piece_key, jnp.log(areas), shape=(num_points,))
    a, b = jax.random.uniform(place_key, (2, num_points, 1), minval=-1.0)
    angle = jax.random.uniform(around_key, (num_points, 1), maxval=2 * math.pi)
    num_plates = obj.plate_center.shape[0]
    candidates = []
    if num_plates:
        plate = jnp.minimum(piece, num_plates - 1)
        candidates.append(obj.plate_center[plate] + a * obj.plate_u[plate] + b * obj.plate_v[plate])
    if obj.wire_a.shape[0]:
        wire = jnp.maximum(piece - num_plates, 0)
        axis = spans[wire] / lengths[wire][:, None]
        spare = jnp.where(
            jnp.abs(axis[:, :1]) < 0.9, jnp.array([1.0, 0, 0]), jnp.array([0, 1.0, 0])
        )
        first = jnp.cross(axis, spare)
        first = first / jnp.linalg.norm(first, axis=-1, keepdims=True)
        around = jnp.cos(angle) * first + jnp.sin(angle) * jnp.cross(axis, first)
        along = obj.wire_a[wire] + 0.5 * (1 + a) * spans[wire]
        candidates.append(along + obj.wire_radius[wire][:, None] * around)
    if not candidates:
        raise ValueError("the object has neither plates nor wires to sample")
    if len(candidates) == 1:
        return candidates[0]
    on_plate, on_wire = candidates
    return jnp.where((piece < num_plates)[:, None], on_plate, on_wire)
