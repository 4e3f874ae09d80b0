import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat.objects import SHAPES, SURFACES


@pytest.mark.parametrize("shape", SHAPES)
def test_surfaces_of_one_key_share_their_envelope(shape):
    key = jax.random.key(3)
    made = {surface: splat.make_object(key, shape, surface) for surface in SURFACES}
    flat, wire = made["flat"], made["wire"]
    for other in ("glass", "mirror"):
        for name in ("plate_center", "plate_u", "plate_v"):
            np.testing.assert_array_equal(getattr(made[other], name), getattr(flat, name))
    assert (flat.plate_alpha == 1).all()
    assert (made["glass"].plate_alpha < 0.5).all()
    assert (made["mirror"].plate_mirror > 0.5).all()
    assert flat.plate_mirror is None
    assert wire.plate_center.shape == (0, 3)
    corners = jnp.concatenate(
        [flat.plate_center + a * flat.plate_u + b * flat.plate_v for a in (-1, 1) for b in (-1, 1)]
    )
    ends = jnp.concatenate([wire.wire_a, wire.wire_b])
    # The plates around a curve reach a little beyond it.
    np.testing.assert_allclose(ends.max(0), corners.max(0), rtol=0.08, atol=0.03)
    np.testing.assert_allclose(ends.min(0), corners.min(0), rtol=0.08, atol=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_of_plates_are_orthogonal(shape):
    obj = splat.make_object(jax.random.key(1), shape, "flat", texture=0.2)
    inner = jnp.abs(jnp.sum(obj.plate_u * obj.plate_v, -1))
    assert (inner < 1e-6).all()
    assert (obj.plate_texture == jnp.float32(0.2)).all()


@pytest.mark.parametrize("surface", ["flat", "wire"])
def test_samples_lie_on_the_surface_by_area(surface):
    obj = splat.make_object(jax.random.key(0), "box", surface)
    points = np.asarray(splat.sample_surface(jax.random.key(1), obj, 4000))
    assert points.shape == (4000, 3)
    if surface == "flat":
        u, v = np.asarray(obj.plate_u), np.asarray(obj.plate_v)
        offset = points[:, None] - np.asarray(obj.plate_center)
        a, b = (np.einsum("npi,pi->np", offset, e / np.sum(e**2, 1)[:, None]) for e in (u, v))
        off = offset - a[..., None] * u - b[..., None] * v
        on = (np.abs(a) <= 1.001) & (np.abs(b) <= 1.001) & (np.linalg.norm(off, axis=-1) < 1e-4)
        area = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        np.testing.assert_allclose(on.mean(0), area / area.sum(), atol=0.03)
    else:
        a, b = np.asarray(obj.wire_a), np.asarray(obj.wire_b)
        t = np.einsum("nwi,wi->nw", points[:, None] - a, b - a) / np.sum((b - a) ** 2, 1)
        foot = a + np.clip(t, 0, 1)[..., None] * (b - a)
        gap = np.abs(np.linalg.norm(points[:, None] - foot, axis=-1) - np.asarray(obj.wire_radius))
        on = gap < 1e-4
    assert on.any(1).all()


def test_refuses():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="shape must be one of box, cylinder, sphere, got 'cone'"):
        splat.make_object(key, "cone", "flat")
    with pytest.raises(ValueError, match="surface must be one of flat, wire, glass, mirror"):
        splat.make_object(key, "box", "fur")
