import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from tests.splat.scenes import random_cloud


def test_channels_and_their_order():
    cloud = random_cloud(6)
    parts = {
        "p": cloud.means,
        "o": 1 / (1 + np.exp(-cloud.opacity_logits))[:, None],
        "s": cloud.log_scales,
        "c": 0.5 + 0.28209479177387814 * cloud.sh[:, 0],
    }
    quats = np.asarray(cloud.quats) / np.linalg.norm(cloud.quats, axis=1, keepdims=True)
    parts["q"] = np.where(quats[:, :1] < 0, -quats, quats)
    for letters in ("p", "po", "psq", "posq", "c", "posqc"):
        wanted = np.concatenate([parts[x] for x in letters], 1)
        for order in (letters, letters[::-1]):  # any order of letters, one of channels
            np.testing.assert_allclose(splat.build_features(cloud, order), wanted, atol=1e-6)
        assert splat.num_features(letters) == wanted.shape[1]
    assert [splat.num_features(x) for x in ("p", "po", "psq", "posq")] == [3, 4, 10, 11]


@pytest.mark.parametrize("letters", ["", "pp", "px", "P"])
def test_refuses_other_letters(letters):
    with pytest.raises(ValueError, match="feature_set must hold letters of p, o, s, q, c"):
        splat.num_features(letters)
    with pytest.raises(ValueError, match="feature_set must hold letters of p, o, s, q, c"):
        splat.build_features(random_cloud(4), letters)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_normalised_clouds(kind):
    cloud = jax.tree.map(kind, random_cloud(30, 1))
    got = splat.normalize_cloud(cloud)
    np.testing.assert_allclose(got.means.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got.means, axis=1).max(), 1, rtol=1e-5)
    radius = np.linalg.norm(cloud.means - cloud.means.mean(0), axis=1).max()
    np.testing.assert_allclose(
        got.log_scales, cloud.log_scales - np.log(radius), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(got.sh, cloud.sh)
    assert isinstance(got.means, type(cloud.means))
    batch = jax.tree.map(lambda x: kind(np.stack([x, 3 * np.asarray(x)])), cloud)
    np.testing.assert_allclose(splat.normalize_cloud(batch).means[0], got.means, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5])
def test_a_cloud_without_extent_stays_finite(count):
    cloud = random_cloud(count)._replace(means=jnp.full((count, 3), 7.0))
    got, gradient = jax.value_and_grad(
        lambda m: splat.normalize_cloud(cloud._replace(means=m)).means.sum()
    )(cloud.means)
    assert got == 0
    assert jnp.isfinite(gradient).all()
    assert jnp.isfinite(splat.normalize_cloud(cloud).log_scales).all()


def test_what_rounding_leaves_is_no_extent():
    cloud = jax.device_get(random_cloud(10))._replace(means=np.full((10, 3), 0.1, np.float32))
    got = splat.normalize_cloud(cloud)
    assert abs(got.means).max() < 1e-7
    np.testing.assert_array_equal(got.log_scales, cloud.log_scales)


@pytest.mark.parametrize("method", ["random", "fps"])
def test_samples_are_whole_rows_without_repetition(method):
    cloud = random_cloud(40)
    key = jax.random.key(0)
    got = splat.subsample_cloud(key, cloud, 25, method=method)
    rows = [int(np.flatnonzero((cloud.means == m).all(1))[0]) for m in got.means]
    assert len(set(rows)) == 25
    for x, y in zip(got, cloud, strict=True):
        np.testing.assert_array_equal(x, y[jnp.array(rows)])
    opaque = jax.nn.sigmoid(cloud.opacity_logits) >= 0.5
    few = splat.subsample_cloud(key, cloud, int(opaque.sum()), method=method, min_opacity=0.5)
    assert (jax.nn.sigmoid(few.opacity_logits) >= 0.5).all()
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), cloud)
    two = splat.subsample_cloud(key, batch, 25, method=method)
    assert two.means.shape == (2, 25, 3)
    assert bool((two.means[0] == two.means[1]).all()) == (method == "fps")


def test_refuses_samples():
    key, cloud = jax.random.key(0), random_cloud(10)
    with pytest.raises(ValueError, match="num_points must be 1 to 10 Gaussians, got 11"):
        splat.subsample_cloud(key, cloud, 11)
    with pytest.raises(ValueError, match="method must be one of random, fps, got 'grid'"):
        splat.subsample_cloud(key, cloud, 5, method="grid")
