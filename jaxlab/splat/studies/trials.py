"""What the studies share: one trained classifier as a stored result, and what is read off it."""

import jax
import numpy as np

from jaxlab.runs import Run, check_finite, latest_step, restore_checkpoint, save_checkpoint
from jaxlab.splat.features import ordered_letters
from jaxlab.splat.recipes import published_config
from jaxlab.splat.training import ClsConfig, evaluate, init_progress, train_classifier
from jaxlab.splat.types import CloudDataset

ALL = "posq"  # what the paper feeds; a network that sees less of it gets zeros there

TITLES = {
    "pointnet": "PointNet",
    "pointnet2": "PointNet++",
    "dgcnn": "DGCNN",
    "pointnext": "PointNeXt",
    "pointmlp": "PointMLP",
    "dela": "DeLA",
    "ptv3": "PTv3",
}


def cls_config(config, model: str, num_steps: int) -> ClsConfig:
    """How the experiment trains `model`: at paper size by its published recipe."""
    if config.size == "paper":
        return published_config(model, num_steps, ALL)
    return ClsConfig(
        model=model,
        size=config.size,
        feature_set=ALL,
        num_steps=num_steps,
        batch_size=config.batch_size,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        label_smoothing=config.label_smoothing,
    )


def train_once(
    run: Run,
    name: str,
    key: jax.Array,
    train: CloudDataset,
    test: CloudDataset,
    config: ClsConfig,
    feature_set: str,
    checkpoint_every: int = 0,
) -> dict:
    """Scores, labels and global features of the test objects, and the training losses.

    Args:
      run: stores the result as `name`, and checkpoints while it trains.
      key: of the training.
      train, test: data sets.
      config: of a network that takes all features.
      feature_set: letters of those that it sees.
      checkpoint_every: steps between checkpoints; 0 makes none.
    """
    hidden = "".join(letter for letter in ALL if letter not in ordered_letters(feature_set))
    return run.once(
        name, lambda: _train(run, name, key, train, test, config, hidden, checkpoint_every)
    )


def _train(run, name, key, train, test, config, hidden, checkpoint_every) -> dict:
    num_classes, folder = len(train.class_names), run.checkpoint_dir(name)
    saved = None
    if latest_step(folder) is not None:
        saved = restore_checkpoint(folder, init_progress(key, train.cloud, config, num_classes))

    def on_chunk(progress) -> None:
        step = int(progress.state.step)
        check_finite(step, {"loss": progress.losses[step - 1]}, folder)
        if checkpoint_every:
            save_checkpoint(folder, progress, step=step, keep=1)

    result = train_classifier(
        key,
        train,
        test,
        config,
        hidden=hidden,
        devices=_accelerators(min(config.batch_size, len(train.labels))),
        chunk_steps=checkpoint_every or None,
        progress=saved,
        on_chunk=on_chunk,
    )
    logits, embedding = evaluate(
        result.variables,
        test.cloud,
        result.feature_mean,
        result.feature_std,
        config,
        num_classes,
    )
    return {
        "logits": logits,
        "labels": test.labels,
        "embedding": embedding,
        "losses": result.losses,
    }


def _accelerators(batch: int) -> list[jax.Device]:
    """As many accelerators as divide the batch; the devices of a CPU share its cores, so one."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return devices[:1]
    return devices[: max(n for n in range(1, len(devices) + 1) if batch % n == 0)]


def accuracy(result: dict) -> float:
    """Overall accuracy of a trial."""
    return float(np.mean(result["logits"].argmax(-1) == result["labels"]))
