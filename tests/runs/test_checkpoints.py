import os
import shutil
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from jaxlab import parallel
from jaxlab.runs import latest_step, restore_checkpoint, save_checkpoint


def tree(scale=1.0):
    return {
        "bf16": scale * jnp.arange(3.0, dtype=jnp.bfloat16),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4), 2),
        "host": np.float64(scale / 3),
        "count": 7,
        "nested": (jnp.linspace(0, scale, 5), None, parallel.TrainState(jnp.int32(2), {}, ())),
        "empty": jnp.zeros((0, 3)),
    }


def raw(tree):
    def data(leaf):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(data, tree)


def test_every_leaf_comes_back_to_the_bit(tmp_path):
    save_checkpoint(tmp_path, tree(1 / 3), step=5)
    restored = restore_checkpoint(tmp_path, tree(0.0))
    chex.assert_trees_all_equal(raw(restored), raw(tree(1 / 3)))
    chex.assert_trees_all_equal_dtypes(raw(restored), raw(tree()))
    assert jax.random.bits(restored["key"]) == jax.random.bits(tree()["key"])


def test_the_newest_steps_stay(tmp_path):
    for step in (3, 10, 20, 30):
        save_checkpoint(tmp_path, {"x": jnp.float32(step)}, step=step, keep=2)
    assert latest_step(tmp_path) == 30
    like = {"x": jnp.float32(0)}
    assert restore_checkpoint(tmp_path, like)["x"] == 30
    assert restore_checkpoint(tmp_path, like, step=20)["x"] == 20
    with pytest.raises(FileNotFoundError, match=r"step 10 .* \[20, 30\]"):
        restore_checkpoint(tmp_path, like, step=10)


def test_an_older_step_that_is_written_stays(tmp_path):
    for step in (10, 20, 30, 5):
        target = save_checkpoint(tmp_path, {"x": jnp.float32(step)}, step=step)
        assert target.is_dir()
    assert restore_checkpoint(tmp_path, {"x": jnp.float32(0)}, step=5)["x"] == 5
    save_checkpoint(tmp_path, {"x": jnp.float32(40)}, step=40)
    assert sorted(path.name for path in tmp_path.glob("[0-9]*")) == ["20", "30", "40"]


def test_nothing_there(tmp_path):
    assert latest_step(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        restore_checkpoint(tmp_path / "none", {"x": 1})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"x": jnp.zeros(4)}, r"leaf x has shape \(3,\), wanted \(4,\)"),
        ({"x": jnp.zeros(3, jnp.int32)}, "leaf x has dtype float32, wanted int32"),
        ({"y": jnp.zeros(3)}, r"missing leaves \['y'\], surplus leaves \['x'\]"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(tmp_path, like, message):
    save_checkpoint(tmp_path, {"x": jnp.zeros(3)}, step=1)
    with pytest.raises(ValueError, match=message):
        restore_checkpoint(tmp_path, like)


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    target = save_checkpoint(tmp_path, {"x": jnp.arange(1000.0)}, step=1)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if damage == "truncate":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        restore_checkpoint(tmp_path, {"x": jnp.zeros(1000)})


def test_a_full_disk_is_named_and_leaves_the_earlier_steps(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, {"x": jnp.float32(1)}, step=1)
    free = SimpleNamespace(total=1_000_000, free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    large = {"x": jnp.ones(100_000), "count": 3}
    left = "it takes 0.2 MB and more, and 0.1 MB are left on the disk"
    message = rf"{tmp_path}/2 cannot be written: {left}$"
    with pytest.raises(OSError, match=message):
        save_checkpoint(tmp_path, large, step=2)
    assert restore_checkpoint(tmp_path, {"x": jnp.float32(0)})["x"] == 1
    # Zeros take no room, and a system may say nothing of its disk.
    save_checkpoint(tmp_path, {"x": np.zeros(100_000)}, step=2)
    free.total = free.free = 0
    save_checkpoint(tmp_path, large, step=3)
    assert latest_step(tmp_path) == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']"), "No space left on device"),
        (PermissionError("denied"), "denied"),
    ],
)
def test_what_the_system_refuses_is_named(tmp_path, monkeypatch, error, reason):
    def save(*_, **__):
        raise error

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", save)
    with pytest.raises(OSError, match=rf"{tmp_path}/2 cannot be written: {reason}$"):
        save_checkpoint(tmp_path, {"x": jnp.float32(1)}, step=2)


@pytest.mark.parametrize(("kwargs", "message"), [({"step": -1}, "step"), ({"keep": 0}, "keep")])
def test_refuses(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path, {"x": 1}, **({"step": 1} | kwargs))


_SAVE_FOREVER = """
    import itertools, sys, jax.numpy as jnp
    from jaxlab.runs import save_checkpoint
    for step in itertools.count(1):
        save_checkpoint(sys.argv[1], {"x": jnp.full((1 << 18,), float(step))}, step=step, keep=2)
        print(step, flush=True)
"""


@pytest.mark.parametrize("wait", [3, 4])
def test_kill_in_the_middle_leaves_a_whole_checkpoint(tmp_path, wait):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_SAVE_FOREVER), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        for line in process.stdout:
            if int(line) == wait:
                break
        process.send_signal(signal.SIGKILL)
        printed = [int(line) for line in process.stdout]
    newest = max([wait, *printed])
    step = latest_step(tmp_path)
    assert step in (newest, newest + 1)
    restored = restore_checkpoint(tmp_path, {"x": jnp.zeros(1 << 18)})["x"]
    np.testing.assert_array_equal(restored, float(step))
    save_checkpoint(tmp_path, {"x": restored}, step=step + 1)
    assert latest_step(tmp_path) == step + 1
