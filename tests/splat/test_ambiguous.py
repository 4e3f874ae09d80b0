import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, ks_2samp, kstest, norm

from jaxlab import splat

OBJECTS = 40


@pytest.fixture(scope="module")
def data():
    return splat.sample_ambiguous_clouds(
        jax.random.key(0), objects_per_class=OBJECTS, num_points=64
    )


def rows(data, surface):
    return jax.tree.map(lambda x: x[np.asarray(data.labels) % 3 == surface], data.cloud)


def test_labels_names_and_normalisation(data):
    assert data.class_names[:4] == ("box_flat", "box_wire", "box_glass", "cylinder_flat")
    assert np.bincount(data.labels).tolist() == [OBJECTS] * 9
    assert data.cloud.means.shape == (9 * OBJECTS, 64, 3)
    assert data.cloud.sh.shape == (9 * OBJECTS, 64, 1, 3)
    np.testing.assert_allclose(data.cloud.means.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(data.cloud.means, axis=-1).max(1), 1, rtol=1e-5)


def test_positions_say_nothing_of_the_surface(data):
    means = np.asarray(data.cloud.means)
    surface = np.asarray(data.labels) % 3
    values = [np.linalg.norm(means, axis=-1).mean(1), *means.std(1).T, *means.max(1).T]
    for value, (a, b) in itertools.product(values, itertools.combinations(range(3), 2)):
        assert ks_2samp(value[surface == a], value[surface == b]).pvalue > 1e-4


def test_scales_and_opacities_have_the_stated_laws(data):
    flat, wire, glass = (rows(data, n) for n in range(3))
    for cloud, place in ((flat, 8), (wire, 8), (glass, 2)):
        opacity = np.asarray(jax.nn.sigmoid(cloud.opacity_logits)).ravel()
        law = beta(place, 10 - place)
        assert kstest(opacity[(opacity > 0.0011) & (opacity < 0.9989)], law.cdf).pvalue > 1e-4
    for cloud in (flat, glass):
        l = np.asarray(cloud.log_scales)  # up to the object's size, which all three share
        ratio = (l[..., 1] - l[..., 0]).ravel()
        assert kstest(ratio, norm(-0.2, 0.2).cdf).pvalue > 1e-4
        gap = (l[..., 2] - l[..., 0]).ravel()
        assert kstest(gap, norm(np.log(0.2), 0.3 * 2**0.5).cdf).pvalue > 1e-4
    l = np.asarray(wire.log_scales)
    assert (
        kstest((l[..., 1] - l[..., 0]).ravel(), norm(np.log(1 / 6), 0.3 * 2**0.5).cdf).pvalue > 1e-4
    )
    assert kstest((l[..., 2] - l[..., 1]).ravel(), norm(0, 0.2).cdf).pvalue > 1e-4


def test_thin_axes_are_normals_and_wires_follow_two_directions():
    data = splat.sample_ambiguous_clouds(
        jax.random.key(1), objects_per_class=20, num_points=200, shapes=("box",)
    )
    frames = splat.quat_to_rotmat(data.cloud.quats)
    flat, wire = frames[:20], frames[20:40]
    # On a box turned about z, normals and wires lie along its three axes.
    means = data.cloud.means
    normal = flat[..., 2]
    vertical = jnp.abs(normal[..., 2])
    assert ((vertical > 0.999) | (vertical < 0.02)).all()
    along = jnp.abs(wire[..., 0][..., 2])
    assert ((along > 0.999) | (along < 0.02)).all()
    np.testing.assert_allclose((along > 0.999).mean(), 1 / 3, atol=0.05)
    high = jnp.abs(means[:20, :, 2]).max(1, keepdims=True)
    lids = jnp.abs(means[:20, :, 2]) > 0.98 * high
    assert vertical[lids].mean() > 0.9


def test_subsets_of_shapes_and_surfaces():
    data = splat.sample_ambiguous_clouds(
        jax.random.key(0),
        objects_per_class=2,
        num_points=8,
        shapes=("sphere", "box"),
        surfaces=("glass",),
    )
    assert data.class_names == ("sphere_glass", "box_glass")
    assert data.labels.tolist() == [0, 0, 1, 1]


def test_refuses():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="shapes must be some of box, cylinder, sphere"):
        splat.sample_ambiguous_clouds(key, shapes=("cone",))
    with pytest.raises(ValueError, match="surfaces must be some of flat, wire, glass"):
        splat.sample_ambiguous_clouds(key, surfaces=("mirror",))
    with pytest.raises(ValueError, match="must be >= 1, got 0, 256"):
        splat.sample_ambiguous_clouds(key, objects_per_class=0)
