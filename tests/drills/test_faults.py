"""What goes wrong around a run ends in one line that says what to do."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.drills.test_kill import TRAIN

SHORT = [*TRAIN, "--steps=10"]
# What a shell starts in the background, and so a test in it, ignores the signal.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@pytest.fixture
def trained(start, tmp_path):
    workdir = tmp_path / "run"
    out, _ = start("lm", *SHORT, f"--workdir={workdir}").communicate()
    assert (workdir / "claims.json").exists(), out
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
