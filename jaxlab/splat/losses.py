"""Image losses: structural similarity, PSNR, and the photometric loss of splat fitting."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.splat.precision import in_full_precision

_C1, _C2 = 0.01**2, 0.03**2
_MIN_MSE = 1e-12


@in_full_precision
def ssim(a: ArrayLike, b: ArrayLike, *, window: int = 11, sigma: float = 1.5) -> jax.Array:
    """Structural similarity, the mean over all pixels and channels.

    Args:
      a, b: `[..., H, W, C]` in 0..1.
      window: side of the Gaussian window in pixels, odd; the image is padded with zeros.
      sigma: its standard deviation in pixels.

    Raises:
      ValueError: different shapes, or an even window.

    Source: Wang et al., "Image Quality Assessment" (2004).
    """
    a, b = _pair(a, b)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}")
    height, width = a.shape[-3:-1]
    down, across = (_blur_matrix(size, window, sigma, a.dtype) for size in (height, width))

    def blur(x):
        # Two banded matrix products: on a CPU several times as fast as a convolution.
        return jnp.einsum("ih,...hwc,jw->...ijc", down, x, across)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    cov = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return jnp.mean(luminance * (2 * cov + _C2) / (var_a + var_b + _C2))


def _blur_matrix(size: int, window: int, sigma: float, dtype: jnp.dtype) -> jax.Array:
    """`[size, size]` weights of a Gaussian that is cut off outside the window."""

    def weight(distance):
        return jnp.exp(-0.5 * (distance / sigma) ** 2)

    reach = window // 2
    distance = jnp.arange(size) - jnp.arange(size)[:, None]
    total = weight(jnp.arange(-reach, reach + 1)).sum()
    inside = jnp.abs(distance) <= reach
    return (jnp.where(inside, weight(distance), 0) / total).astype(dtype)


def psnr(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """Peak signal-to-noise ratio in dB of images in 0..1, from the mean error over all of them."""
    a, b = _pair(a, b)
    return -10 * jnp.log10(jnp.maximum(jnp.mean((a - b) ** 2), _MIN_MSE))


def photometric_loss(pred: jax.Array, target: jax.Array, *, lambda_dssim: float = 0.2) -> jax.Array:
    """`(1 - lambda) mean |pred - target| + lambda (1 - SSIM)`.

    Args:
      pred, target: `[..., H, W, C]` in 0..1.
      lambda_dssim: weight of the structural term.

    Source: Kerbl et al., "3D Gaussian Splatting" (2023), equation 7.
    """
    pred, target = _pair(pred, target)
    absolute = jnp.mean(jnp.abs(pred - target))
    return (1 - lambda_dssim) * absolute + lambda_dssim * (1 - ssim(pred, target))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[jax.Array, jax.Array]:
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape or a.ndim < 3:
        raise ValueError(
            f"two images [..., H, W, C] of one shape are compared, got {a.shape} and {b.shape}"
        )
    return a, b
