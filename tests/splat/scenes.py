"""Small random scenes for tests."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import splat

DATA = Path(__file__).parent / "data"

# Compiled: the tests share few shapes, and so few programs.
render = jax.jit(
    splat.render,
    static_argnames=("width", "height", "sh_degree", "method", "tile_size", "tile_capacity"),
)


def random_cloud(count=40, degree=0, seed=0, spread=0.5, scale=0.15):
    """A blob of Gaussians around the origin, with opacities of all sizes."""
    rng = np.random.default_rng(seed)
    return splat.GaussianCloud(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (
                spread * rng.normal(size=(count, 3)),
                np.log(scale) + 0.5 * rng.normal(size=(count, 3)),
                rng.normal(size=(count, 4)),
                1.5 * rng.normal(size=count),
                0.4 * rng.normal(size=(count, (degree + 1) ** 2, 3)),
            )
        )
    )


def camera(width=24, height=20, distance=3.0):
    """A camera that looks at the origin from above and aside."""
    focal = 1.1 * width
    K = jnp.array([[focal, 0, width / 2 + 0.3], [0, focal, height / 2 - 0.7], [0, 0, 1]])
    return splat.Camera(splat.look_at((distance, 0.4, 0.6)), K)


def gsplat_case(name):
    """A cloud, a camera and the image `[82, 123, 4]` that gsplat's CUDA renderer made of them."""
    with np.load(DATA / f"gsplat_{name}_case.npz") as case:
        cloud = splat.GaussianCloud(
            *(case[k] for k in ("means", "log_scales", "quats", "opacity_logits", "sh"))
        )
        return cloud, splat.Camera(case["viewmat"], case["K"]), case["rgba"]
