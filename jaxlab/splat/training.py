"""Training a classifier on Gaussian clouds, as one compiled scan, and evaluating it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab import parallel
from jaxlab.checks import check_choice
from jaxlab.splat.augmentation import augment_cloud
from jaxlab.splat.backbones import make_classifier
from jaxlab.splat.classifier_step import TrainState, init_train_state, make_train_step
from jaxlab.splat.features import FEATURES, build_features, ordered_letters
from jaxlab.splat.metrics import ClsMetrics, classification_metrics
from jaxlab.splat.types import CloudDataset, GaussianCloud

OPTIMIZERS = ("adamw", "sgd")
_MIN_STD = 1e-6
_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class ClsConfig:
    """How a classifier is trained.

    Attributes:
      model, size: as `make_classifier`.
      feature_set: letters, as `build_features`.
      num_steps: optimizer steps.
      batch_size: objects a step, at most as many as there are.
      learning_rate: the largest; a cosine leads from it to `final_learning_rate`.
      weight_decay: decoupled, times the learning rate (added to the gradient for `sgd`).
      label_smoothing: share of the target that is spread over all classes.
      rotate: augmentation, as `augment_cloud`.
      standardize: whether channels get mean 0 and deviation 1 over the training set.
      dropout: rate in the head; None takes the network's own.
      optimizer: `"adamw"`, or `"sgd"` with momentum 0.9.
      final_learning_rate: at the last step.
      warmup_steps: of linear growth from 0.
      clip_norm: largest norm of a gradient; 0 does not clip.
      scale_range, translate: augmentation, as `augment_cloud`.
      regularization: weight of what a network sows in `regularizers` (PointNet's orthogonality,
        DeLA's positions) at the first step.
      regularization_decay: factor it ends with, log-linear.
    """

    model: str = "pointnet"
    size: str = "tiny"
    feature_set: str = "posq"
    num_steps: int = 300
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    rotate: str = "z"
    standardize: bool = True
    dropout: float | None = None
    optimizer: str = "adamw"
    final_learning_rate: float = 0.0
    warmup_steps: int = 0
    clip_norm: float = 10.0
    scale_range: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    regularization: float = 0.0
    regularization_decay: float = 1.0


class ClsResult(NamedTuple):
    """A trained classifier.

    Attributes:
      variables: `params` and `batch_stats`.
      metrics: on the test set.
      losses: `[num_steps]` training losses.
      feature_mean, feature_std: `[C]`, subtracted from and divided out of the channels.
    """

    variables: dict[str, Any]
    metrics: ClsMetrics
    losses: np.ndarray
    feature_mean: np.ndarray
    feature_std: np.ndarray


class Progress(NamedTuple):
    """What a resumed training goes on from.

    Attributes:
      state: after `state.step` steps.
      losses: `[num_steps]`, those of the steps to come are nan.
    """

    state: TrainState
    losses: np.ndarray


def make_optimizer(config: ClsConfig) -> optax.GradientTransformation:
    """The optax transformation that the config describes.

    Raises:
      ValueError: an unknown optimizer.
    """
    check_choice("optimizer", config.optimizer, OPTIMIZERS)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0 if config.warmup_steps else config.learning_rate,
        config.learning_rate,
        config.warmup_steps,
        max(config.num_steps, config.warmup_steps + 1),
        config.final_learning_rate,
    )
    if config.optimizer == "sgd":
        rule = optax.chain(
            optax.add_decayed_weights(config.weight_decay), optax.sgd(schedule, _MOMENTUM)
        )
    else:
        rule = optax.adamw(schedule, weight_decay=config.weight_decay)
    return (
        optax.chain(optax.clip_by_global_norm(config.clip_norm), rule) if config.clip_norm else rule
    )


def train_classifier(
    key: jax.Array,
    train: CloudDataset,
    test: CloudDataset,
    config: ClsConfig,
    *,
    hidden: str = "",
    devices: Sequence[jax.Device] | None = None,
    chunk_steps: int | None = None,
    progress: Progress | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
) -> ClsResult:
    """Trains for a fixed number of steps, then evaluates once on the test set.

    The test set decides nothing. Every random number follows from `key`, the step and an object's
    place in the batch: a training that stops and goes on, or runs on other devices, ends the same
    up to rounding.

    Args:
      key: of parameters, batches, augmentation and dropout.
      train, test: with the same classes; clouds should be normalised (`normalize_cloud`).
      config: static.
      hidden: letters of features that the network sees as zeros: an ablation with one network, and
        one compiled program, for all sets.
      devices: over which a batch is split; the first local one by default.
      chunk_steps: steps between calls of `on_chunk`; all by default.
      progress: to go on from.
      on_chunk: called with the progress after each chunk, to save it.

    Raises:
      ValueError: other classes in the test set, an empty set, a batch that devices do not divide,
        or hidden letters that are not in the feature set.
    """
    num_classes = len(train.class_names)
    if tuple(test.class_names) != tuple(train.class_names):
        raise ValueError(f"test classes {test.class_names} are not {train.class_names}")
    rows = len(train.labels)
    if not rows or not len(test.labels):
        raise ValueError(f"training and test set must hold objects, got {rows}, {len(test.labels)}")
    if set(hidden) - set(ordered_letters(config.feature_set)):
        raise ValueError(f"hidden {hidden!r} must be letters of {config.feature_set!r}")
    devices = tuple(devices or jax.local_devices()[:1])
    batch = min(config.batch_size, rows)
    if batch % len(devices):
        raise ValueError(f"batch of {batch} objects cannot be split over {len(devices)} devices")
    cloud, labels = jax.tree.map(jnp.asarray, (train.cloud, train.labels))
    mean, std = _channel_statistics(cloud, config, hidden)
    init_key, step_key = jax.random.split(key)
    progress = progress or init_progress(init_key, cloud, config, num_classes)
    state, losses = progress.state, np.array(progress.losses)
    chunk = chunk_steps or config.num_steps
    while (done := int(state.step)) < config.num_steps:
        steps = min(chunk - done % chunk, config.num_steps - done)
        run = _compiled(config, num_classes, steps, devices)
        state, part = run(step_key, state, cloud, labels, mean, std)
        losses[done : done + steps] = part
        if on_chunk is not None:
            on_chunk(Progress(state, losses.copy()))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits, _ = evaluate(variables, test.cloud, mean, std, config, num_classes)
    metrics = classification_metrics(logits, test.labels, num_classes)
    return ClsResult(variables, metrics, losses, np.asarray(mean), np.asarray(std))


def init_progress(
    key: jax.Array, cloud: GaussianCloud, config: ClsConfig, num_classes: int
) -> Progress:
    """The progress before the first step; `cloud` `[M, N, ...]` tells shapes."""
    sample = jax.tree.map(lambda x: jnp.asarray(x[:2]), cloud)
    state = init_train_state(
        key,
        _model(config, num_classes),
        make_optimizer(config),
        sample.means,
        build_features(sample, config.feature_set),
    )
    return Progress(state, np.full(config.num_steps, np.nan, np.float32))


def _model(config: ClsConfig, num_classes: int, axis_name: str | None = None):
    return make_classifier(
        config.model,
        num_classes,
        size=config.size,
        dropout=config.dropout,
        axis_name=axis_name,
        positions_in_features="p" in config.feature_set,
    )


@functools.partial(jax.jit, static_argnames=("config", "hidden"))
def _channel_statistics(
    cloud: GaussianCloud, config: ClsConfig, hidden: str
) -> tuple[jax.Array, jax.Array]:
    features = build_features(cloud, config.feature_set)
    mean, std = features.mean((0, 1)), features.std((0, 1))
    if config.standardize:
        std = jnp.where(std > _MIN_STD, std, 1)  # a constant channel stays one
    else:
        mean, std = jnp.zeros_like(mean), jnp.ones_like(std)
    shown = [
        letter not in hidden
        for letter in ordered_letters(config.feature_set)
        for _ in range(FEATURES[letter])
    ]
    return mean, jnp.where(jnp.array(shown), std, jnp.inf)  # what is divided by it becomes zero


@functools.cache
def _compiled(config: ClsConfig, num_classes: int, steps: int, devices: tuple[jax.Device, ...]):
    """`run(key, state, cloud, labels, mean, std) -> (state, losses [steps])`."""
    scan = functools.partial(
        _scan, config=config, num_classes=num_classes, steps=steps, shards=len(devices)
    )
    if len(devices) == 1:
        return jax.jit(scan)
    mapped = parallel.map_shards(scan, devices=devices)

    def run(*args):
        return parallel.unreplicate(mapped(*parallel.replicate(args, len(devices))))

    return run


def _scan(key, state, cloud, labels, mean, std, *, config, num_classes, steps, shards):
    """Several steps; with `shards` above 1, this device's share of each batch."""
    axis = parallel.AXIS if shards > 1 else None
    model = _model(config, num_classes, axis)
    train_step = make_train_step(
        model,
        make_optimizer(config),
        axis_name=axis,
        label_smoothing=config.label_smoothing,
        regularization=_regularization(config),
    )
    rows = labels.shape[0]
    batch = min(config.batch_size, rows)
    per_epoch, share = rows // batch, batch // shards

    def step(state, _):
        order_key = jax.random.fold_in(jax.random.fold_in(key, 0), state.step // per_epoch)
        order = jax.random.permutation(order_key, rows)
        first = state.step % per_epoch * batch
        motion_key, dropout_key = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(key, 1), state.step)
        )
        place = jax.lax.axis_index(axis) * share if axis else 0
        chosen = jax.lax.dynamic_slice(order, (first + place,), (share,))
        keys = jax.vmap(lambda row: jax.random.fold_in(motion_key, row))(place + jnp.arange(share))
        moved = jax.vmap(functools.partial(_augment, config))(
            keys, jax.tree.map(lambda x: x[chosen], cloud)
        )
        features = (build_features(moved, config.feature_set) - mean) / std
        return train_step(state, dropout_key, moved.means, features, labels[chosen])

    return jax.lax.scan(step, state, length=steps)


def _augment(config: ClsConfig, key: jax.Array, cloud: GaussianCloud) -> GaussianCloud:
    return augment_cloud(
        key,
        cloud,
        rotate=config.rotate,
        scale_range=config.scale_range,
        translate=config.translate,
    )


def _regularization(config: ClsConfig):
    if not config.regularization:
        return None
    return lambda step: (
        config.regularization * config.regularization_decay ** (step / config.num_steps)
    )


@functools.partial(jax.jit, static_argnames=("config", "num_classes"))
def evaluate(
    variables: dict[str, Any],
    cloud: GaussianCloud,
    feature_mean: jax.Array,
    feature_std: jax.Array,
    config: ClsConfig,
    num_classes: int,
) -> tuple[jax.Array, jax.Array]:
    """Scores `[M, C]` and global features `[M, D]` of `M` objects, `batch_size` at a time.

    The global feature is what the last dense layer reads.
    """
    model = _model(config, num_classes)

    def one(cloud):
        features = (build_features(cloud, config.feature_set) - feature_mean) / feature_std
        logits, sown = model.apply(
            variables, cloud.means[None], features[None], mutable=["features"]
        )
        (pooled,) = jax.tree.leaves(sown)
        return logits[0], pooled[0]

    cloud = jax.tree.map(jnp.asarray, cloud)
    return jax.lax.map(one, cloud, batch_size=config.batch_size)
