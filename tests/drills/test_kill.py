"""kill -9 in the middle of every script: the same command ends with the same numbers."""

import signal
import time

import pytest

from tests.drills.lost import assert_same, losses

# Asynchronous reinforcement learning cannot repeat its timing; `lm` has a drill of its own.
SYSTEMS = (
    "large_stepsize_gd",
    "icl_linear_block",
    "trust_bandits",
    "splat_classification",
    "speculative_rejection",
    "two_hop_reasoning",
    "unlearning",
    "autoprm",
)
TRAIN = (
    "--experiment=train --stories=60 --vocab_size=300 --d_model=32 --n_heads=2 --n_layers=1 "
    "--seq_len=64 --steps=40 --batch_size=4 --warmup_steps=2 --eval_every=5 --eval_rows=8"
).split()


def kill_once(process, happened, limit=600):
    """Waits until `happened()`, then kills; the script must not have ended by itself."""
    deadline = time.monotonic() + limit
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_killed_script_ends_with_the_same_numbers(system, start, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(system, "--preset=smoke", f"--workdir={whole}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    phases = len(list((whole / "results").glob("*.npz")))
    process = start(system, "--preset=smoke", f"--workdir={broken}")
    kill_once(process, lambda: len(list((broken / "results").glob("*.npz"))) >= (phases + 1) // 2)
    process = start(system, "--preset=smoke", f"--workdir={broken}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert_same(whole, broken)


def test_a_killed_training_of_a_language_model_goes_on_to_the_bit(start, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start("lm", *TRAIN, f"--workdir={whole}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    process = start("lm", *TRAIN, f"--workdir={broken}")
    kill_once(process, lambda: (broken / "checkpoints" / "text" / "10").is_dir())
    process = start("lm", *TRAIN, f"--workdir={broken}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert losses(broken) == losses(whole)
    weights = [path / "artifacts" / "model" / "model.safetensors" for path in (whole, broken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
