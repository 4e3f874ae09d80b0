"""What goes wrong around a run ends in one line that says what to do."""

import json
import os
import shutil
import signal
import subprocess
import textwrap
import time

import pytest

from tests.drills.lost import losses
from tests.drills.test_kill import TRAIN

SHORT = [*TRAIN, "--steps=10"]
# What a shell starts in the background, and so a test in it, ignores the signal.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@pytest.fixture
def trained(start, tmp_path):
    return train(start, tmp_path / "run", *SHORT)


def train(start, workdir, *flags):
    process = start("lm", *flags, f"--workdir={workdir}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return workdir


def fails(process, *parts):
    out, _ = process.communicate()
    assert process.returncode == 1, out
    assert "Traceback" not in out
    for part in parts:
        assert part in out, out


def test_a_full_disk_is_named(start, tmp_path):
    """A limit on the size of files stands in for it: writes fail in the same way."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))"
    process = start("lm", *SHORT, f"--workdir={tmp_path / 'run'}", before=limit)
    fails(process, "lm: error:")


def test_a_disk_that_fills_in_the_middle_is_named_and_the_run_goes_on(start, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # Room for one checkpoint.
    mount = ["mount", "-t", "tmpfs", "-o", "size=560k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("no right to mount a disk")
    try:
        process = start("lm", *TRAIN, f"--workdir={disk / 'run'}")
        folder = disk / "run" / "checkpoints" / "text"
        fails(process, f"checkpoint {folder / '10'} cannot be written: it takes")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        train(start, disk / "run", *TRAIN)
        assert losses(disk / "run") == losses(train(start, tmp_path / "whole", *TRAIN))
    finally:
        subprocess.run(["umount", "--lazy", disk])  # a script may still run


def test_a_workdir_that_cannot_be_written_is_named(start):
    fails(start("lm", *SHORT, "--workdir=/proc/run"), "lm: error:", "/proc/run")


def test_two_runs_in_one_workdir_are_refused(start, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    first = start("lm", *TRAIN, workdir)
    while not (tmp_path / "run" / "config.json").exists():
        assert first.poll() is None
        time.sleep(0.1)
    fails(start("lm", *TRAIN, workdir), "another process is writing")
    assert first.poll() is None


def test_other_settings_in_a_workdir_are_refused(start, trained):
    fails(start("lm", *SHORT, "--seed=1", f"--workdir={trained}"), "seed: 0 there, 1 here")


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_damaged_checkpoint_is_named(start, trained, damage):
    newest = trained / "checkpoints" / "text" / "10"
    for file in newest.rglob("*"):
        if file.is_file():
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"foreign")
    fails(start("lm", *SHORT, f"--workdir={trained}"), str(newest), "remove the folder to go on")


def test_a_checkpoint_of_another_model_is_named(start, trained, tmp_path):
    newest = trained / "checkpoints" / "text" / "10"
    other = train(start, tmp_path / "other", *SHORT, "--d_model=16")
    shutil.rmtree(newest)
    shutil.copytree(other / newest.relative_to(trained), newest)
    shapes = "leaf params/embed/w has shape (300, 16), wanted (300, 32)"
    fails(start("lm", *SHORT, f"--workdir={trained}"), f"{newest} does not fit: {shapes}")


def test_a_truncated_model_is_named(start, trained):
    file = trained / "artifacts" / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    model = f"--model={file.parent}"
    fails(start("lm", "--experiment=generate", model, "--workdir=out"), "model.safetensors")


def test_an_interrupt_leaves_a_readable_run_that_goes_on(start, tmp_path):
    workdir = tmp_path / "run"
    process = start("lm", *TRAIN, f"--workdir={workdir}", before=HEED)
    while not (workdir / "checkpoints" / "text" / "5").is_dir():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130, out
    assert "the same command goes on" in out
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line)["step"] % 5 == 0
    process = start("lm", *TRAIN, f"--workdir={workdir}")
    out, _ = process.communicate()
    assert process.returncode == 0, out


def test_a_killed_evaluator_is_replaced_while_training_goes_on(start, tmp_path):
    workdir = tmp_path / "run"
    # Each evaluator evaluates once, when it starts.
    small = "--hidden=8,8 --batch_size=16 --warmup_steps=40 --capacity=2000 --eval_episodes=2"
    flags = f"--experiment=train {small} --eval_every_s=1e6 --max_seconds=1e6 --record_every=0"
    process = start("spreeze", *flags.split(), f"--workdir={workdir}", before=HEED)
    log = workdir / "checkpoints" / "training" / "metrics.jsonl"

    def wait_for_evaluations(count):
        while not (log.exists() and len(log.read_text().splitlines()) >= count):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)

    wait_for_evaluations(1)
    listing = ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)]
    children = subprocess.run(listing, capture_output=True, text=True).stdout.splitlines()
    (evaluator,) = (line.split()[0] for line in children if line.endswith("jaxlab.rl.evaluator"))
    os.kill(int(evaluator), signal.SIGKILL)
    wait_for_evaluations(2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130, out
    assert "the evaluator died with exit code -9: it is started again (1 of 3 times)" in out
    first, second = (json.loads(line)["updates"] for line in log.read_text().splitlines())
    assert second > first


def test_a_loss_that_is_no_number_stops_with_the_step(start, tmp_path):
    flags = [*TRAIN, "--peak_lr=1e30", "--clip_norm=0", f"--workdir={tmp_path / 'run'}"]
    fails(start("lm", *flags), "loss is", "at step 5", "checkpoint")


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(start, tmp_path):
    """Rewards become so large that their squares are infinite."""
    module = """
        import gymnasium
        import numpy as np

        class Exploding(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
            action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
            steps = 0  # of all

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return np.zeros(3, np.float32), {}

            def step(self, action):
                Exploding.steps += 1
                reward = 1e30 if Exploding.steps > 3000 else 0.0
                return np.zeros(3, np.float32), reward, False, False, {}

        gymnasium.register("Exploding-v0", Exploding, max_episode_steps=200)
    """
    (tmp_path / "exploding.py").write_text(textwrap.dedent(module))
    small = "--hidden=8,8 --batch_size=16 --warmup_steps=40 --capacity=4000 --eval_episodes=2"
    flags = (
        f"--experiment=train {small} --import_module=exploding --env_id=gym:Exploding-v0 "
        "--max_sample_hz=500 --checkpoint_every_s=1 --record_every=0"
    )
    folder = tmp_path / "run" / "checkpoints" / "training" / "checkpoint"
    process = start("spreeze", *flags.split(), f"--workdir={tmp_path / 'run'}")
    fails(process, "is inf at update", f"the last good checkpoint is {folder}/")
    assert len([entry for entry in folder.iterdir() if entry.name.isdigit()]) == 1
