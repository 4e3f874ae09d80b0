"""Fitting a cloud to posed images: one compiled scan over optimizer steps."""

import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxlab.checks import check_choice
from jaxlab.splat.densification import densify_and_prune, reset_opacity
from jaxlab.splat.fit_state import STRATEGIES, FitConfig, FitState, init_fit_state
from jaxlab.splat.initialization import compact, init_cloud
from jaxlab.splat.losses import photometric_loss, psnr
from jaxlab.splat.relocation import jiggle_means, relocate_faint
from jaxlab.splat.rendering import RenderOutput, render
from jaxlab.splat.types import Camera, GaussianCloud

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15)
_HIGHER_BANDS = 1 / 20  # of the first band's learning rate


class FitResult(NamedTuple):
    """A fitted cloud.

    Attributes:
      cloud: the Gaussians that are alive, NumPy arrays.
      losses: `[num_steps]`, each of the view of that step.
      psnr: dB over all training views on black.
      num_alive: how many Gaussians there are.
    """

    cloud: GaussianCloud
    losses: np.ndarray
    psnr: float
    num_alive: int


def fit(
    key: jax.Array,
    images: ArrayLike,
    cameras: Camera,
    points: ArrayLike,
    colors: ArrayLike,
    config: FitConfig,
) -> FitResult:
    """Fits Gaussians to posed images (host: it compiles once for equal shapes and config).

    Args:
      key: for the order of views, backgrounds and splits.
      images: `[V, H, W, 4]` premultiplied RGBA in 0..1.
      cameras: batched `[V]`.
      points, colors: `[M, 3]` where Gaussians start, and their colours in 0..1.
      config: static settings.

    Raises:
      ValueError: images of another rank or number of channels, another number of cameras, or
        points that `init_cloud` refuses.

    Warns:
      UserWarning: a view shows more Gaussians in a tile than `tile_capacity`.
    """
    images = check_views(images, cameras)
    state = init_fit_state(*init_cloud(points, colors, config.capacity, sh_degree=config.sh_degree))
    state, losses = run_fit(key, images, cameras, state, config)
    return finish_fit(state, losses, images, cameras, config)


def check_views(images: ArrayLike, cameras: Camera) -> jax.Array:
    """The images as float32, once shapes agree."""
    images = jnp.asarray(images, jnp.float32)
    if images.ndim != 4 or images.shape[-1] != 4:
        raise ValueError(
            f"images must be [V, H, W, 4], premultiplied RGBA, got shape {images.shape}"
        )
    if cameras.viewmat.shape != (len(images), 4, 4) or cameras.K.shape != (len(images), 3, 3):
        raise ValueError(
            f"{len(images)} images need cameras with viewmat [V, 4, 4] and K [V, 3, 3], got "
            f"{cameras.viewmat.shape} and {cameras.K.shape}"
        )
    return images


def finish_fit(
    state: FitState, losses: jax.Array, images: jax.Array, cameras: Camera, config: FitConfig
) -> FitResult:
    """The result of a finished state: compacted, with its PSNR, and a warning where tiles spill."""
    quality, overflow = _quality(state, images, cameras, config)
    if overflow > 0:
        warnings.warn(
            f"{int(overflow)} pairs of a tile and a Gaussian found no room in {len(images)} views; "
            f"raise tile_capacity above {config.tile_capacity} for exact images",
            stacklevel=3,
        )
    cloud = compact(state.cloud, state.alive)
    return FitResult(cloud, np.asarray(losses), float(quality), len(cloud.means))


def fit_states(
    key: jax.Array,
    images: jax.Array,
    cameras: Camera,
    state: FitState,
    config: FitConfig,
    *,
    num_steps: int | None = None,
) -> tuple[FitState, jax.Array]:
    """The scan of a fit: pure, uncompacted, and `vmap`pable over objects.

    Every random number is a function of `key` and the step, so that parts of a fit, one after the
    other, end as the whole does.

    Args:
      key: the same for every part of a fit.
      images: `[V, H, W, 4]` premultiplied RGBA.
      cameras: batched `[V]`.
      state: to start from; it knows how many steps were taken.
      config: static.
      num_steps: steps to take now, `config.num_steps` by default.

    Returns:
      `(state, losses [num_steps])`.

    Raises:
      ValueError: an unknown strategy.
    """
    check_choice("strategy", config.strategy, STRATEGIES)
    images, cameras = jax.tree.map(jnp.asarray, (images, cameras))
    num_views = images.shape[0]

    def step(state, _):
        at = jax.random.fold_in(key, state.step)
        order_key = jax.random.fold_in(jax.random.fold_in(key, 0x7FFFFFFF), state.step // num_views)
        view = jax.random.permutation(order_key, num_views)[state.step % num_views]
        camera = jax.tree.map(lambda x: x[view], cameras)
        background = jnp.zeros(3, images.dtype)
        if config.random_background:
            background = jax.random.uniform(at, (3,), images.dtype)
        state, loss = fit_step(state, images[view], camera, background, config)
        return _adapt(jax.random.fold_in(at, 1), state, config), loss

    return jax.lax.scan(step, state, length=config.num_steps if num_steps is None else num_steps)


def _adapt(key: jax.Array, state: FitState, config: FitConfig) -> FitState:
    """What the strategy does after a step, and resets, at the steps that the config names."""
    done = state.step
    if config.strategy == "mcmc":
        rate = _learning_rates(done, config).means
        state = jiggle_means(jax.random.fold_in(key, 1), state, rate, config)
    if config.densify_every:
        act = functools.partial(relocate_faint, config=config)
        if config.strategy == "default":
            # Before the first reset even a large Gaussian may be what the scene needs.
            act = functools.partial(
                densify_and_prune, config=config, prune_large=done > config.reset_every
            )
        due = done % config.densify_every == 0
        due &= (done >= config.densify_from) & (done <= config.densify_until)
        state = jax.lax.cond(due, lambda s: act(key, s), lambda s: s, state)
    if config.reset_every:
        # A reset at the very end would leave a faint cloud.
        due = (done % config.reset_every == 0) & (done < config.num_steps)
        state = jax.lax.cond(due, reset_opacity, lambda s: s, state)
    return state


def fit_step(
    state: FitState, image: jax.Array, camera: Camera, background: jax.Array, config: FitConfig
) -> tuple[FitState, jax.Array]:
    """One Adam step on one view.

    Args:
      state: before.
      image: `[H, W, 4]` premultiplied RGBA.
      camera: of this view.
      background: `[3]` put behind both the image and the rendering.
      config: static.

    Returns:
      `(state, loss)`.
    """
    height, width = image.shape[:2]
    target = image[..., :3] + (1 - image[..., 3:]) * background

    def loss_of(cloud, offset):
        if config.sh_every:
            cloud = cloud._replace(sh=_started_bands(cloud.sh, state.step // config.sh_every))
        rendered = _render(cloud, state.alive, camera, width, height, config, background, offset)
        return photometric_loss(rendered.rgb, target, lambda_dssim=config.lambda_dssim)

    offset = jnp.zeros((state.alive.shape[0], 2), state.cloud.means.dtype)
    loss, (gradient, screen) = jax.value_and_grad(loss_of, argnums=(0, 1))(state.cloud, offset)
    adam = optax.ScaleByAdamState(state.step, state.mu, state.nu)
    direction, adam = _ADAM.update(gradient, adam)
    rates = _learning_rates(state.step, config)
    cloud = jax.tree.map(lambda x, d, rate: x - rate * d, state.cloud, direction, rates)
    speed = jnp.linalg.norm(screen * jnp.array([width / 2, height / 2], screen.dtype), axis=-1)
    return (
        FitState(
            cloud,
            state.alive,
            adam.mu,
            adam.nu,
            state.grad_accum + speed,
            state.vis_count + (speed > 0),
            adam.count,
        ),
        loss,
    )


def _render(cloud, alive, camera, width, height, config, background=None, offset=None):
    return render(
        cloud,
        camera,
        width,
        height,
        background=background,
        mask=alive,
        tile_size=config.tile_size,
        tile_capacity=config.tile_capacity,
        means2d_offset=offset,
    )


def _learning_rates(step: jax.Array, config: FitConfig) -> GaussianCloud:
    """Per-leaf rates; that of `sh` is `[K, 1]`, the first band before the others."""
    done = jnp.clip(step / max(config.num_steps - 1, 1), 0, 1)
    decay = config.lr_decay**done
    ratio = config.lr_means_final / config.lr_means if config.lr_means else 0.0
    means = config.lr_means * ratio**done * config.extent
    bands = np.full(((config.sh_degree + 1) ** 2, 1), _HIGHER_BANDS, np.float32)
    bands[0] = 1
    return GaussianCloud(
        means,
        config.lr_scales * decay,
        config.lr_quats * decay,
        config.lr_opacity * decay,
        config.lr_sh * decay * bands,
    )


def _started_bands(sh: jax.Array, degree: jax.Array) -> jax.Array:
    band_of = np.floor(np.sqrt(np.arange(sh.shape[-2])))[:, None]
    return jnp.where(band_of <= degree, sh, 0)


# At module level, so that equal shapes and config find the compiled program again.
run_fit = jax.jit(fit_states, static_argnames=("config", "num_steps"), donate_argnames="state")


@functools.partial(jax.jit, static_argnames="config")
def _quality(state, images, cameras, config) -> tuple[jax.Array, jax.Array]:
    """PSNR over all views on black, and the overflow in all of them."""
    height, width = images.shape[1:3]

    def view(camera: Camera) -> RenderOutput:
        return _render(state.cloud, state.alive, camera, width, height, config)

    rendered = jax.lax.map(view, cameras)
    return psnr(rendered.rgb, images[..., :3]), rendered.overflow.sum()
