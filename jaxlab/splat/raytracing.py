"""Ray-traced views of objects of plates and wires: the images that clouds are fitted to."""

import functools

import jax
import jax.numpy as jnp

from jaxlab.splat.objects import ObjectSpec
from jaxlab.splat.rotations import normalize
from jaxlab.splat.types import Camera

_LIGHT = (0.4, 0.3, 0.85)
_HITS = 8
_NEAR = 1e-3


def trace_object(
    obj: ObjectSpec, camera: Camera, width: int, height: int, *, supersample: int = 2
) -> jax.Array:
    """Premultiplied RGBA `[H, W, 4]` of an object, box-filtered over `supersample^2` rays a pixel.

    The up to eight nearest hits of a ray are composited front to back.

    Args:
      obj: plates and wires; either may be empty.
      camera: one camera.
      width, height: in pixels.
      supersample: rays along a pixel's side.

    Raises:
      ValueError: sizes below 1.
    """
    if width < 1 or height < 1 or supersample < 1:
        raise ValueError(
            f"width, height and supersample must be >= 1, got {width}, {height}, {supersample}"
        )
    eye, rays = _rays(camera, width, height, supersample)
    hits = [
        trace(obj, eye, rays)
        for trace, pieces in ((_hit_plates, obj.plate_alpha), (_hit_wires, obj.wire_radius))
        if pieces.shape[0]
    ]
    if not hits:
        return jnp.zeros((height, width, 4))
    distances, alphas, colors = (jnp.concatenate(x, 1) for x in zip(*hits, strict=True))
    nearest = jax.lax.top_k(-distances, min(_HITS, distances.shape[1]))[1]
    alphas = jnp.take_along_axis(alphas, nearest, 1)
    colors = jnp.take_along_axis(colors, nearest[..., None], 1)
    passed = jnp.cumprod(1 - alphas, 1)
    weights = alphas * jnp.concatenate([jnp.ones_like(passed[:, :1]), passed[:, :-1]], 1)
    rgba = jnp.concatenate(
        [jnp.sum(weights[..., None] * colors, 1), jnp.sum(weights, 1, keepdims=True)], -1
    )
    rgba = rgba.reshape(height, supersample, width, supersample, 4)
    return rgba.mean((1, 3))


@functools.partial(jax.jit, static_argnames=("width", "height", "supersample"))
def trace_views(
    obj: ObjectSpec, cameras: Camera, width: int, height: int, *, supersample: int = 2
) -> jax.Array:
    """`trace_object` for cameras `[V]`: `[V, H, W, 4]`, one view after the other."""
    return jax.lax.map(
        lambda camera: trace_object(obj, camera, width, height, supersample=supersample), cameras
    )


def _rays(camera: Camera, width: int, height: int, supersample: int):
    """The eye `[3]` and unit directions `[H s W s, 3]` in the world."""
    rows = (jnp.arange(height * supersample) + 0.5) / supersample
    columns = (jnp.arange(width * supersample) + 0.5) / supersample
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    K, turn = camera.K, camera.viewmat[:3, :3]
    through = jnp.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], jnp.ones_like(x)], -1)
    return -turn.T @ camera.viewmat[:3, 3], normalize(through.reshape(-1, 3) @ turn)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < 1e-12, 1e-12, x)


def _hit_plates(obj: ObjectSpec, eye: jax.Array, rays: jax.Array):
    """Distance (inf where missed), alpha `[rays, P]` and colour `[rays, P, 3]`."""
    normals = normalize(jnp.cross(obj.plate_u, obj.plate_v))
    slope = rays @ normals.T
    distance = jnp.sum((obj.plate_center - eye) * normals, -1) / _nonzero(slope)
    # Plate coordinates of the hit, linear in the distance.
    start = eye - obj.plate_center

    def coordinate(edge):
        unit = edge / jnp.sum(edge**2, -1, keepdims=True)
        return jnp.sum(start * unit, -1) + distance * (rays @ unit.T)

    a, b = coordinate(obj.plate_u), coordinate(obj.plate_v)
    hit = (jnp.abs(a) <= 1) & (jnp.abs(b) <= 1) & (distance > _NEAR)
    light = jnp.abs(normals @ normalize(jnp.array(_LIGHT)))
    checker = obj.plate_texture * jnp.sign(jnp.sin(6 * a) * jnp.sin(6 * b))
    lit = obj.plate_color * (0.75 + 0.25 * light)[:, None]
    color = jnp.clip(lit + checker[..., None], 0, 1)
    if obj.plate_mirror is not None:
        reflected = rays[:, None] - 2 * slope[..., None] * normals
        share = obj.plate_mirror[:, None]
        color = (1 - share) * color + share * _environment(reflected)
    return jnp.where(hit, distance, jnp.inf), jnp.where(hit, obj.plate_alpha, 0), color


def _environment(direction: jax.Array) -> jax.Array:
    """What surrounds a mirror, by direction."""
    x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
    wave = jnp.sin(9 * x[..., None] + jnp.arange(3.0))
    return 0.5 + 0.5 * wave * jnp.sin(7 * y + 5 * z)[..., None]


def _hit_wires(obj: ObjectSpec, eye: jax.Array, rays: jax.Array):
    """As `_hit_plates`, for the mantles of cylinders that reach a radius beyond their ends."""
    span = obj.wire_b - obj.wire_a
    length = jnp.linalg.norm(span, axis=-1)
    axis = span / _nonzero(length)[:, None]
    start = eye - obj.wire_a
    along_start, along_ray = jnp.sum(start * axis, -1), rays @ axis.T
    across_start = start - along_start[:, None] * axis
    # |across_start + t across_ray|^2 = radius^2, a quadratic in the distance t.
    a = 1 - along_ray**2
    b = rays @ across_start.T
    c = jnp.sum(across_start**2, -1) - obj.wire_radius**2
    inside = b * b - a * c
    root = jnp.sqrt(jnp.maximum(inside, 0))

    def reach(distance):
        at = along_start + distance * along_ray
        ends = (at >= -obj.wire_radius) & (at <= length + obj.wire_radius)
        return jnp.where((inside > 0) & ends & (distance > _NEAR), distance, jnp.inf)

    safe = jnp.maximum(a, 1e-12)
    distance = jnp.minimum(reach((-b - root) / safe), reach((-b + root) / safe))
    hit = jnp.isfinite(distance)
    near = jnp.where(hit, distance, 0)[..., None]
    normal = across_start + near * (rays[:, None] - along_ray[..., None] * axis)
    light = jnp.abs(normalize(normal) @ normalize(jnp.array(_LIGHT)))
    color = obj.wire_color * (0.7 + 0.3 * light)[..., None]
    return distance, jnp.where(hit, 1.0, 0.0), color
