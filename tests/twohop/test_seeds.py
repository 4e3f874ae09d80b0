import dataclasses

import chex
import jax
import numpy as np
import pytest

from jaxlab import twohop
from jaxlab.runs import restore_checkpoint, save_checkpoint
from jaxlab.twohop.seeds import _devices, seeds_progress_like

TASK = twohop.TaskConfig(n_chains=2, vocab_size=8)
MODEL = twohop.ModelConfig(n_tokens=12, max_len=10, dim=8, n_layers=1)
# Easy to reach, so that the seeds stop at different steps.
FAST = twohop.TrainConfig(
    "adamw",
    lr=1e-2,
    batch_size=32,
    steps=50,
    eval_every=10,
    eval_size=64,
    stop_accuracy=0.2,
    stop_after=0,
    keep_every=20,
)
KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.fixture(scope="module")
def single():
    return [twohop.train(key, TASK, MODEL, FAST) for key in KEYS]


@pytest.mark.parametrize("count", [1, 4])
def test_seeds_at_once_are_the_single_runs(single, count):
    devices = jax.local_devices()[:count]
    results = twohop.train_seeds(KEYS, TASK, MODEL, FAST, devices=devices)
    assert len({len(result.history["step"]) for result in results}) > 1
    for got, want in zip(results, single, strict=True):
        np.testing.assert_array_equal(got.history["step"], want.history["step"])
        chex.assert_trees_all_close(got.history, want.history, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(got.params, jax.device_get(want.params), atol=1e-3)
        chex.assert_trees_all_close(got.checkpoints, want.checkpoints, atol=1e-3)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    train = dataclasses.replace(FAST, stop_accuracy=None)

    def keep(progress):
        save_checkpoint(tmp_path, progress, step=int(progress.history["step"][-1].max()), keep=None)

    whole = twohop.train_seeds(KEYS, TASK, MODEL, train, on_eval=keep)
    like = seeds_progress_like(KEYS, TASK, MODEL, train, 20)
    progress = restore_checkpoint(tmp_path, like, step=20)
    resumed = twohop.train_seeds(KEYS, TASK, MODEL, train, progress=progress)
    chex.assert_trees_all_equal(resumed, whole)


def test_parameters_are_kept_between_evaluations_too():
    often = dataclasses.replace(FAST, steps=20, keep_every=15, stop_accuracy=None)
    results = twohop.train_seeds(KEYS[:2], TASK, MODEL, often)
    for key, got in zip(KEYS, results, strict=False):
        want = twohop.train(key, TASK, MODEL, often)
        assert set(got.checkpoints) == {15}
        chex.assert_trees_all_close(got.checkpoints, want.checkpoints, atol=1e-3)
        chex.assert_trees_all_close(got.history, want.history, rtol=1e-3, atol=1e-4)


def test_devices_must_divide_the_seeds():
    assert [len(_devices(count, None)) for count in (1, 3, 4, 6)] == [1, 3, 4, 3]
    with pytest.raises(ValueError, match="cannot be split over 2 device"):
        twohop.train_seeds(KEYS[:3], TASK, MODEL, FAST, devices=jax.local_devices()[:2])
