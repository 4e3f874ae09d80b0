import dataclasses

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl import experiment, figures
from jaxlab.rl.episode_strip import render_episode
from jaxlab.rl.learner import policy_of
from jaxlab.rl.studies import own
from jaxlab.runs import Run
from tests.rl.test_experiment import TINY

POLICY = policy_of(rl.sac_init(jax.random.key(0), rl.SACConfig(3, 1, (8,))))


def test_frames_of_an_episode(monkeypatch):
    pytest.importorskip("gymnasium")
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    frames, total = render_episode("gym:Pendulum-v1", POLICY, 5)
    assert len(frames) == 5
    assert all(frame.shape[2] == 3 and frame.dtype == np.uint8 for frame in frames)
    assert not np.array_equal(frames[0], frames[2])
    assert -2000 < total < 0
    assert len(figures.strip(frames, "title").axes) == 5


def test_without_what_draws_the_run_still_ends_well(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium")

    def missing(*args):
        raise ImportError("drawing needs more: pygame is not installed")

    monkeypatch.setattr(own, "render_episode", missing)
    config = dataclasses.replace(
        TINY,
        experiment="train",
        env_id="gym:Pendulum-v1",
        mode="sync",
        hidden=(8, 8),
        envs_per_sampler=4,
        batch_size=16,
        capacity=1000,
        warmup_steps=32,
        max_updates=8,
        eval_episodes=2,
    )
    with Run(tmp_path, config) as run:
        (claim,) = experiment.run(config, run)
    assert "No picture of an episode: drawing needs more: pygame" in claim.detail
    assert not list((tmp_path / "figures").glob("*.png"))


def test_refuses():
    with pytest.raises(ValueError, match="only gym: environments can be drawn, got 'numpy:pend"):
        render_episode("numpy:pendulum", POLICY)
    with pytest.raises(ValueError, match="n_frames must be >= 1, got 0"):
        render_episode("gym:Pendulum-v1", POLICY, 0)
