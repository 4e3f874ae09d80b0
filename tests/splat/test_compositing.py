import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat.compositing import blend_tiles


def loop(alphas, colors, background):
    rgb, total = np.zeros((len(alphas), colors.shape[-1])), np.zeros(len(alphas))
    for p, row in enumerate(alphas):
        through = 1.0
        for a, color in zip(row, colors, strict=True):
            if through * (1 - a) <= 1e-4:
                break
            rgb[p] += a * through * color
            total[p] += a * through
            through *= 1 - a
    return rgb + (1 - total)[:, None] * background, total


@hypothesis.given(st.integers(1, 12), st.floats(0.05, 0.97), st.integers(0, 1000))
def test_is_the_loop(layers, largest, seed):
    rng = np.random.default_rng(seed)
    alphas = largest * rng.uniform(size=(6, layers)).astype(np.float32)
    colors = rng.uniform(size=(layers, 4)).astype(np.float32)
    background = rng.uniform(size=4).astype(np.float32)
    got = splat.composite(alphas, colors, background)
    for x, y in zip(got, loop(alphas, colors, background), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-6)


def test_the_layer_that_would_end_the_pixel_is_not_added():
    alphas = jnp.array([[0.98, 0.98, 0.98, 0.5]])  # 0.02, 4e-4, then 8e-6
    rgb, alpha = splat.composite(alphas, jnp.eye(4)[:, :3], jnp.zeros(3))
    np.testing.assert_allclose(rgb[0], [0.98, 0.0196, 0], atol=1e-6)
    np.testing.assert_allclose(alpha, 0.9996, atol=1e-6)


def test_leading_axes_and_gradient():
    rng = np.random.default_rng(0)
    alphas = jnp.asarray(0.6 * rng.uniform(size=(2, 3, 5, 7)), jnp.float32)
    colors = jnp.asarray(rng.uniform(size=(2, 3, 7, 3)), jnp.float32)
    rgb, alpha = splat.composite(alphas, colors, jnp.zeros(3))
    assert rgb.shape == (2, 3, 5, 3)
    assert alpha.shape == (2, 3, 5)
    with jax.enable_x64(True):
        jax.test_util.check_grads(
            lambda a, c: splat.composite(a, c, jnp.ones(3))[0],
            (np.asarray(alphas[0, 0], np.float64), np.asarray(colors[0, 0], np.float64)),
            order=1,
            modes=("rev",),
        )


def tiles(layers=9, num_tiles=3, seed=0):
    rng = np.random.default_rng(seed)
    corners = 4.0 * np.stack([np.arange(num_tiles), np.zeros(num_tiles)], -1)
    centres = corners + rng.uniform(-1, 5, (layers, num_tiles, 2))
    root = rng.normal(size=(layers, num_tiles, 2, 2))
    conic = 0.2 * root @ root.swapaxes(-1, -2) + 0.1 * np.eye(2)
    parts = [
        centres,
        conic[..., 0, 0, None],
        conic[..., 0, 1, None],
        conic[..., 1, 1, None],
        rng.uniform(0.2, 1.0, (layers, num_tiles, 1)),
        rng.uniform(size=(layers, num_tiles, 4)),
    ]
    counts = np.minimum(layers, [layers, layers // 2, 1])
    return np.concatenate(parts, -1), corners, counts.astype(np.int32)


def blend_directly(layers, corners, counts):
    """The same blending by `composite`, which jax differentiates by itself."""
    steps = jnp.arange(4) + 0.5
    rows, columns = (x.ravel() for x in jnp.meshgrid(steps, steps, indexing="ij"))
    out = []
    for tile in range(layers.shape[1]):
        x, y, a, b, c, opacity = layers[:, tile, :6].T
        dx, dy = columns[:, None] + corners[tile, 0] - x, rows[:, None] + corners[tile, 1] - y
        raw = opacity * jnp.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy))
        raw = jnp.where(jnp.arange(len(layers)) < counts[tile], raw, 0)
        alphas = jnp.where(raw < 1 / 255, 0, jnp.minimum(raw, 0.99))
        rgb, alpha = splat.composite(alphas, layers[:, tile, 6:], jnp.zeros(4))
        out.append(jnp.concatenate([rgb, alpha[:, None]], -1).T)
    return jnp.stack(out)


@pytest.mark.parametrize("layers", [1, 9, 40])
def test_the_walk_over_layers_is_the_definition_with_its_gradient(layers):
    with jax.enable_x64(True):
        packed, corners, counts = tiles(layers)
        weights = np.random.default_rng(1).normal(size=(3, 5, 16))

        def loss(blend, packed):
            return jnp.sum(weights * blend(packed, corners, counts))

        ours = jax.jit(jax.value_and_grad(lambda x: loss(lambda *a: blend_tiles(*a, 4), x)))
        theirs = jax.value_and_grad(lambda x: loss(blend_directly, x))
        (value, grad), (wanted, wanted_grad) = ours(packed), theirs(packed)
        np.testing.assert_allclose(value, wanted, rtol=1e-10)
        np.testing.assert_allclose(grad, wanted_grad, rtol=1e-8, atol=1e-9)
