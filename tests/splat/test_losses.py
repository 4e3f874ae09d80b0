import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from jaxlab import splat


def reference_ssim(a, b, window=11, sigma=1.5):
    """By definition, with SciPy's two-dimensional correlation and zeros outside."""
    t = np.arange(window) - window // 2
    kernel = np.exp(-0.5 * (t / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2

    def blur(x):
        return np.stack(
            [correlate2d(x[..., c], kernel, mode="same") for c in range(x.shape[-1])], -1
        )

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    return np.mean(
        (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    )


def images(seed=0, shape=(17, 23, 3)):
    rng = np.random.default_rng(seed)
    a = rng.uniform(size=shape)
    return a.astype(np.float32), np.clip(a + 0.1 * rng.normal(size=shape), 0, 1).astype(np.float32)


def test_ssim_is_the_definition():
    a, b = images()
    wanted = reference_ssim(a.astype(float), b.astype(float))
    np.testing.assert_allclose(splat.ssim(a, b), wanted, atol=1e-5)
    wanted = reference_ssim(a.astype(float), b.astype(float), 7, 0.8)
    np.testing.assert_allclose(splat.ssim(a, b, window=7, sigma=0.8), wanted, atol=1e-5)
    traced = jax.jit(lambda sigma: splat.ssim(a, b, window=7, sigma=sigma))
    np.testing.assert_allclose(traced(0.8), wanted, atol=1e-5)
    np.testing.assert_allclose(splat.ssim(a, a), 1, atol=1e-6)


def test_batches_are_means():
    pairs = [images(seed) for seed in range(3)]
    a, b = (np.stack(x) for x in zip(*pairs, strict=True))
    np.testing.assert_allclose(
        splat.ssim(a, b), np.mean([splat.ssim(*p) for p in pairs]), atol=1e-6
    )
    np.testing.assert_allclose(
        splat.photometric_loss(a, b),
        np.mean([splat.photometric_loss(*p) for p in pairs]),
        atol=1e-6,
    )


def test_psnr_and_its_floor():
    a, b = images()
    wanted = -10 * np.log10(np.mean((a.astype(float) - b) ** 2))
    np.testing.assert_allclose(splat.psnr(a, b), wanted, rtol=1e-5)
    assert splat.psnr(a, a) == 120


def test_loss_mixes_both_terms():
    a, b = images()
    for weight in (0.0, 0.2, 1.0):
        wanted = (1 - weight) * np.abs(a - b).mean() + weight * (1 - splat.ssim(a, b))
        np.testing.assert_allclose(
            splat.photometric_loss(a, b, lambda_dssim=weight), wanted, rtol=1e-5
        )
    gradient = jax.jit(jax.grad(splat.photometric_loss))(jnp.asarray(a), b)
    assert jnp.isfinite(gradient).all()


def test_refuses():
    a, b = images()
    with pytest.raises(ValueError, match="of one shape are compared"):
        splat.ssim(a, b[:5])
    with pytest.raises(ValueError, match="window must be odd and positive, got 10"):
        splat.ssim(a, b, window=10)
