import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat

LIGHT = np.array([0.4, 0.3, 0.85]) / np.linalg.norm([0.4, 0.3, 0.85])
NONE = np.zeros((0, 3), np.float32)
CAMERA = splat.Camera(
    jnp.asarray(splat.look_at((0.0, -4.0, 0.0))), jnp.array([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]])
)


def plates(centers, alphas, colors, *, texture=0.0, mirror=None):
    """Squares of half edge 0.5 that face the camera on the negative y axis."""
    count = len(centers)
    return splat.ObjectSpec(
        np.array(centers, np.float32),
        np.tile(np.float32([0.5, 0, 0]), (count, 1)),
        np.tile(np.float32([0, 0, 0.5]), (count, 1)),
        np.array(alphas, np.float32),
        np.array(colors, np.float32),
        np.full(count, texture, np.float32),
        NONE,
        NONE,
        np.zeros(0, np.float32),
        NONE,
        mirror,
    )


def wires(a, b, radius):
    return splat.ObjectSpec(
        NONE,
        NONE,
        NONE,
        np.zeros(0, np.float32),
        NONE,
        np.zeros(0, np.float32),
        np.array([a], np.float32),
        np.array([b], np.float32),
        np.array([radius], np.float32),
        np.array([[0.2, 0.4, 0.6]], np.float32),
    )


def test_a_plate_is_where_the_camera_sees_it():
    obj = plates([(0, 0, 0)], [1.0], [(0.2, 0.4, 0.8)])
    image = np.asarray(splat.trace_object(obj, CAMERA, 16, 16))
    assert image.shape == (16, 16, 4)
    # Half edge 0.5 at distance 4 with focal length 16: two pixels around the middle.
    inside = np.zeros((16, 16))
    inside[6:10, 6:10] = 1
    np.testing.assert_allclose(image[..., 3], inside, atol=1e-6)
    shade = 0.75 + 0.25 * abs(LIGHT[1])
    np.testing.assert_allclose(image[8, 8, :3], shade * np.array([0.2, 0.4, 0.8]), atol=1e-5)
    np.testing.assert_array_equal(image[0, 0], 0)


def test_partly_covered_pixels_are_averaged():
    obj = plates([(0.125, 0, 0)], [1.0], [(1, 1, 1)])  # half a pixel to the right
    image = splat.trace_object(obj, CAMERA, 16, 16)
    np.testing.assert_allclose(image[8, 5:12, 3], [0, 0.5, 1, 1, 1, 0.5, 0], atol=1e-6)
    assert splat.trace_object(obj, CAMERA, 16, 16, supersample=1)[8, 6, 3] in (0, 1)


def test_clear_plates_blend_front_to_back():
    colors = [(0.8, 0, 0), (0, 0.8, 0)]
    obj = plates([(0, 0.3, 0), (0, -0.3, 0)], [0.5, 0.25], colors)  # the second is nearer
    pixel = np.asarray(splat.trace_object(obj, CAMERA, 16, 16))[8, 8]
    shade = 0.75 + 0.25 * abs(LIGHT[1])
    wanted = [0.75 * 0.5 * 0.8 * shade, 0.25 * 0.8 * shade, 0, 0.25 + 0.75 * 0.5]
    np.testing.assert_allclose(pixel, wanted, atol=1e-5)


def test_the_eight_nearest_hits_count():
    many = [(0, 0.05 * n, 0) for n in range(12)]
    obj = plates(many, [0.2] * 12, [(1, 1, 1)] * 12)
    alpha = splat.trace_object(obj, CAMERA, 16, 16)[8, 8, 3]
    np.testing.assert_allclose(alpha, 1 - 0.8**8, atol=1e-5)


def test_texture_is_a_checker_of_plate_coordinates():
    obj = plates([(0, 0, 0)], [1.0], [(0.5, 0.5, 0.5)], texture=0.1)
    image = np.asarray(splat.trace_object(obj, CAMERA, 16, 16, supersample=1))
    base = 0.5 * (0.75 + 0.25 * abs(LIGHT[1]))
    for row, column in ((6, 6), (7, 9), (8, 7)):
        a, b = (column + 0.5 - 8) / 2, -(row + 0.5 - 8) / 2
        wanted = base + 0.1 * np.sign(np.sin(6 * a) * np.sin(6 * b))
        np.testing.assert_allclose(image[row, column, :3], wanted, atol=1e-4)


def test_a_mirror_shows_the_environment_by_direction():
    obj = plates([(0, 0, 0)], [1.0], [(0.5, 0.5, 0.5)], mirror=np.ones(1, np.float32))
    image = np.asarray(splat.trace_object(obj, CAMERA, 16, 16, supersample=1))
    ray = np.array([(9.5 - 8) / 16, 1, -(6.5 - 8) / 16])
    ray /= np.linalg.norm(ray)
    r = ray * [1, -1, 1]
    wanted = 0.5 + 0.5 * np.sin(9 * r[0] + np.arange(3)) * np.sin(7 * r[1] + 5 * r[2])
    np.testing.assert_allclose(image[6, 9, :3], wanted, atol=1e-4)


def test_a_wire_is_a_cylinder_that_reaches_a_radius_beyond_its_ends():
    obj = wires((0, 0, -0.5), (0, 0, 0.5), 0.25)
    fine = splat.Camera(CAMERA.viewmat, jnp.array([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]))
    image = np.asarray(splat.trace_object(obj, fine, 64, 64))
    width = 2 * 64 * 0.25 / np.sqrt(16 - 0.0625)  # of the silhouette, in pixels
    np.testing.assert_allclose(image[32, :, 3].sum(), width, atol=0.6)
    # Seen from the side the near rim of the mantle is at distance 3.75.
    np.testing.assert_allclose(image[:, 32, 3].sum(), 2 * 64 * 0.75 / 3.75, atol=1.1)
    pixel = image[32, 32]
    normal = np.array([0, -1, 0])
    np.testing.assert_allclose(
        pixel[:3], (0.7 + 0.3 * abs(normal @ LIGHT)) * np.array([0.2, 0.4, 0.6]), atol=1e-2
    )
    assert pixel[3] == 1


def test_nothing_is_seen_as_nothing():
    obj = plates([(0, 0, 0)], [1.0], [(1, 1, 1)])
    empty = obj._replace(
        plate_center=NONE,
        plate_u=NONE,
        plate_v=NONE,
        plate_alpha=np.zeros(0, np.float32),
        plate_color=NONE,
        plate_texture=np.zeros(0, np.float32),
    )
    np.testing.assert_array_equal(splat.trace_object(empty, CAMERA, 5, 4), np.zeros((4, 5, 4)))
    behind = obj._replace(plate_center=np.array([[0, -8.0, 0]], np.float32))
    np.testing.assert_array_equal(splat.trace_object(behind, CAMERA, 5, 4), np.zeros((4, 5, 4)))


def test_refuses():
    with pytest.raises(ValueError, match="width, height and supersample must be >= 1, got 0, 4, 2"):
        splat.trace_object(plates([(0, 0, 0)], [1.0], [(1, 1, 1)]), CAMERA, 0, 4)
