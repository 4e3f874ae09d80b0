import contextlib
import dataclasses
import json
import os

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl import experiment, recorder
from jaxlab.rl.child_process import ChildProcess
from jaxlab.rl.episode_strip import render_episode, write_episode
from jaxlab.rl.evaluator import EvaluatorSettings
from jaxlab.rl.learner import policy_of
from jaxlab.rl.recorder import Recorder, RecordSettings, what_to_record
from jaxlab.rl.stop_words import StopWords
from jaxlab.runs import Run
from tests.rl.test_experiment import ON_DEVICE, TINY
from tests.rl.test_host import CONFIG, SMALL
from tests.rl.waiting import wait_until

POLICY = policy_of(rl.sac_init(jax.random.key(0), rl.SACConfig(3, 1, (8,))))
FRAMES = [np.full((30, 40, 3), 20 * i, np.uint8) for i in range(12)]

HASTY = {
    "mode": "sync",
    "hidden": (8, 8),
    "envs_per_sampler": 4,
    "batch_size": 16,
    "capacity": 1000,
    "warmup_steps": 32,
    "max_updates": 8,
    "eval_episodes": 2,
}


@pytest.fixture
def drawing():
    pytest.importorskip("gymnasium")
    pytest.importorskip("pygame")


def pictures(folder):
    from PIL import Image

    with Image.open(folder / "episode.gif") as moving, Image.open(folder / "episode.png") as strip:
        return moving.n_frames, moving.size, strip.size


@pytest.mark.parametrize("env_id", ["gym:Pendulum-v1", "numpy:pendulum"])
def test_frames_of_an_episode(drawing, env_id):
    frames, total = render_episode(env_id, POLICY, 5)
    assert len(frames) == 5
    assert all(frame.shape[2] == 3 and frame.dtype == np.uint8 for frame in frames)
    assert not np.array_equal(frames[0], frames[2])
    assert -2000 < total < 0


def test_pictures_are_whole_and_small(tmp_path):
    write_episode(tmp_path / "new", [np.repeat(f, 10, axis=1) for f in FRAMES], -3.0)
    assert pictures(tmp_path / "new") == (12, (240, 18), (8 * 240, 18))
    assert sorted(x.name for x in (tmp_path / "new").iterdir()) == ["episode.gif", "episode.png"]


def test_some_evaluations_are_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(recorder, "render_episode", lambda *args: drawn.append(args) or (FRAMES, 0))
    some = Recorder(RecordSettings("gym:Mine", str(tmp_path), 3))
    for _ in range(7):
        some.look(POLICY)
    assert len(drawn) == 3
    assert (tmp_path / "episode.gif").exists()
    assert what_to_record("gym:Mine", tmp_path, None, shown=False) is None
    assert what_to_record("gym:Mine", tmp_path, 0, shown=True) is None
    assert what_to_record("gym:Mine", None, 5, shown=True) is None
    assert what_to_record("gym:Mine", tmp_path, None, shown=True).every == 10


def test_what_cannot_be_drawn_is_said_once(tmp_path):
    said = []
    none = Recorder(RecordSettings("other:env", str(tmp_path), 1), said.append)
    none.look(POLICY)
    none.look(POLICY)
    assert len(said) == 1
    assert "only pendulum and gym: environments can be drawn, got 'other:env'" in said[0]


def test_training_in_turn_records_what_is_evaluated(drawing, tmp_path):
    settings = SMALL | {"eval_every_s": 1e-3}
    host = rl.HostConfig(mode="sync", record_every=100, max_updates=8, **settings)
    rl.train_host(jax.random.key(0), CONFIG, host, tmp_path / "run", pictures=tmp_path / "drawn")
    assert pictures(tmp_path / "drawn")[0] > 50
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all("mean_return" in json.loads(line) for line in lines)


@contextlib.contextmanager
def evaluating(record):
    """An evaluator's process."""
    with rl.WeightBoard.create(POLICY) as board, contextlib.closing(StopWords.create(1)) as stop:
        board.publish(POLICY)
        settings = EvaluatorSettings(
            board.handle, stop.handle, "numpy:pendulum", 2, 0, 0.1, None, record, os.getpid()
        )
        evaluator = ChildProcess("jaxlab.rl.evaluator", settings)
        try:
            yield evaluator
        finally:
            stop.raise_all()
            evaluator.end(timeout=60.0)


def test_the_evaluator_records_what_it_evaluates(drawing, tmp_path):
    with evaluating(RecordSettings("gym:Pendulum-v1", str(tmp_path), 1)) as evaluator:
        assert "mean_return" in json.loads(evaluator.stdout.readline())
        wait_until((tmp_path / "episode.png").exists)
    assert pictures(tmp_path)[0] > 50


def test_the_evaluator_says_what_it_cannot_draw(tmp_path):
    with evaluating(RecordSettings("other:env", str(tmp_path), 1)) as evaluator:
        lines = [json.loads(evaluator.stdout.readline()) for _ in range(2)]
    assert "only pendulum and gym: environments can be drawn" in lines[1]["said"]


def test_training_on_the_device_shows_and_records(drawing, tmp_path, capfd):
    config = dataclasses.replace(ON_DEVICE, env_id="pendulum")
    options = experiment.Options(dashboard=True, record_every=100)
    with Run(tmp_path, config) as run:
        (claim,) = experiment.run(config, run, options)
    assert "dashboard: http://127.0.0.1" in capfd.readouterr().out
    assert "One episode is drawn in figures/episode.gif" in claim.detail
    assert pictures(tmp_path / "figures")[0] > 50
    lines = (tmp_path / "checkpoints" / "training" / "metrics.jsonl").read_text()
    assert lines.count("sample_hz") >= 3


def test_without_what_draws_the_run_still_ends_well(tmp_path, monkeypatch):
    def missing(*args):
        raise ImportError("drawing needs more: pygame is not installed")

    monkeypatch.setattr(recorder, "render_episode", missing)
    config = dataclasses.replace(TINY, experiment="train", **HASTY)
    with Run(tmp_path, config) as run:
        (claim,) = experiment.run(config, run)
    assert "no pictures of episodes: drawing needs more: pygame" in claim.detail
    assert not list((tmp_path / "figures").glob("*"))


def test_refuses():
    with pytest.raises(ValueError, match="only pendulum and gym: environments can be drawn"):
        render_episode("numpy:cartpole", POLICY)
    with pytest.raises(ValueError, match="n_frames must be >= 1, got 0"):
        render_episode("gym:Pendulum-v1", POLICY, 0)
    with pytest.raises(ValueError, match="record_every must be >= 0 or None, got -1"):
        rl.HostConfig(record_every=-1)
