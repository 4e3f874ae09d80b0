import dataclasses
import json
import multiprocessing
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.runs import Claim, Run, WorkdirError, option, read_metrics
from jaxlab.runs.figures import styled, subplots


@dataclasses.dataclass(frozen=True)
class Config:
    eta: tuple[float, ...] = option((1.0, 10.0), "stepsizes")
    name: str = option("x", "name")


def test_config_json_records_what_ran(tmp_path):
    Run(tmp_path, Config(), preset="smoke").close()
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"] == {"eta": [1.0, 10.0], "name": "x"}
    assert record["preset"] == "smoke"
    assert {"versions", "device", "git_revision", "python", "platform"} <= record.keys()


def test_the_same_settings_continue_and_others_are_refused(tmp_path):
    with Run(tmp_path, Config()) as run:
        run.log(1, loss=2.0)
    with Run(tmp_path, Config()) as run:
        assert run.metrics() == [{"step": 1, "loss": 2.0}]
    with pytest.raises(WorkdirError, match=r"name: 'x' there, 'y' here.*--overwrite"):
        Run(tmp_path, Config(name="y"))
    with Run(tmp_path, Config(name="y"), overwrite=True) as run:
        assert run.metrics() == []


def test_a_closed_run_says_so(tmp_path):
    run = Run(tmp_path)
    run.close()
    with pytest.raises(ValueError, match=r"is closed: log before `close`"):
        run.log(1, loss=2.0)


def test_another_version_does_not_hinder_going_on(tmp_path):
    Run(tmp_path, Config()).close()
    record = json.loads((tmp_path / "config.json").read_text())
    record |= {"git_revision": "other", "versions": {"jax": "9"}, "preset": "paper"}
    (tmp_path / "config.json").write_text(json.dumps(record))
    Run(tmp_path, Config()).close()


def test_overwrite_removes_only_what_a_run_writes(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with Run(tmp_path, Config()) as run:
        run.write_json("table.json", {"a": np.arange(2)})
        run.once("phase", lambda: {"a": 1})
    with Run(tmp_path, Config(), overwrite=True) as run:
        assert run.once("phase", lambda: {"a": 2})["a"] == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "artifacts").exists()


def test_what_cannot_be_removed_is_not_taken_for_the_new_runs(tmp_path):
    workdir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with Run(workdir, Config()) as run:
        run.once("phase", lambda: {"a": 1})
    (workdir / "results").rename(elsewhere)
    (workdir / "results").symlink_to(elsewhere)  # rmtree refuses a link, whoever asks
    for _ in range(2):  # the record stays to the last, so that the next try is refused as well
        with pytest.raises(OSError, match="symbolic link"):
            Run(workdir, Config(name="y"), overwrite=True)
    (workdir / "results").unlink()
    with Run(workdir, Config(name="y"), overwrite=True) as run:
        assert run.once("phase", lambda: {"a": 2})["a"] == 2


def test_the_time_of_a_run_is_that_of_all_its_processes(tmp_path):
    with Run(tmp_path, Config()) as run:
        assert run.add_seconds(2.0) == 2
        run.write_summary({"wall_seconds": 2.0})
    with Run(tmp_path, Config()) as run:
        assert run.add_seconds(3.5) == 5.5
    (tmp_path / "seconds.json").unlink()  # as a run of an earlier version
    with Run(tmp_path, Config()) as run:
        assert run.add_seconds(1.0) == 3
    with Run(tmp_path, Config(), overwrite=True) as run:
        assert run.add_seconds(1.0) == 1


def test_a_workdir_that_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WorkdirError, match="not the record of a run"):
        Run(tmp_path, Config())


def _open_elsewhere(path, queue):
    try:
        Run(path, Config()).close()
        queue.put("opened")
    except WorkdirError as error:
        queue.put(str(error))


def test_two_processes_cannot_write_one_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with Run(tmp_path, Config()):
        Run(tmp_path, Config()).close()  # the same process may look again
        process = context.Process(target=_open_elsewhere, args=(tmp_path, queue))
        process.start()
        assert "another process" in queue.get(timeout=60)
        process.join()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc refuses writes even to root")
def test_read_only_workdir():
    with pytest.raises(OSError, match="/proc/run"):
        Run("/proc/run", Config())


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Run(tmp_path / "file", Config())


def test_metrics_merge_repeated_steps_and_drop_a_torn_line(tmp_path):
    with Run(tmp_path, Config()) as run:
        run.log(1, loss=1.0)
        run.log(1, accuracy=0.5)
        run.log(2, loss=np.float32(0.5))
        run.log(1, loss=3.0)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
    rows = [{"step": 1, "loss": 3.0, "accuracy": 0.5}, {"step": 2, "loss": 0.5}]
    assert read_metrics(tmp_path / "metrics.jsonl") == rows
    with Run(tmp_path, Config()) as run:
        run.log(3, loss=0.25)
        assert run.metrics() == [*rows, {"step": 3, "loss": 0.25}]
    events = list((tmp_path / "tensorboard").iterdir())
    assert all(event.stat().st_size for event in events)
    assert len(events) == 2


def test_a_writer_of_events_that_has_died_does_not_block(tmp_path):
    with Run(tmp_path, Config()) as run:
        run.log(1, loss=1.0)
        _, events = run._metrics._open_files
        writer = events.file_writer.event_writer
        alive, writer._worker = writer._worker, SimpleNamespace(is_alive=lambda: False)
        with pytest.raises(OSError, match=r"events cannot be written .*disk full"):
            run.log(2, loss=1.0)
        writer._worker = alive


def test_metrics_are_scalars(tmp_path):
    with Run(tmp_path) as run, pytest.raises(ValueError, match=r"'loss' must be a scalar.*\(2,\)"):
        run.log(1, loss=np.zeros(2))


def test_artifacts_are_written_by_the_first_process_alone(tmp_path, monkeypatch):
    with Run(tmp_path / "first") as run:
        assert run.write_bytes("a.bin", b"\x00\xff").read_bytes() == b"\x00\xff"
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Run(tmp_path / "second") as run:
        path = run.write_bytes("a.bin", b"")
    assert path == tmp_path / "second" / "artifacts" / "a.bin"
    assert not path.exists()


def test_a_phase_is_computed_once(tmp_path):
    calls = []

    def phase():
        calls.append(1)
        return {"curve": np.arange(3.0), "deep": {"n": 4, "name": "a"}, "ok": True}

    with Run(tmp_path, Config()) as run:
        first = run.once("phase", phase)
    with Run(tmp_path, Config()) as run:
        again = run.once("phase", phase)
    assert len(calls) == 1
    for result in (first, again):
        np.testing.assert_array_equal(result["curve"], [0.0, 1.0, 2.0])
        assert result["deep"]["n"] == 4
        assert str(result["deep"]["name"]) == "a"
    with Run(tmp_path, Config()) as run:
        with pytest.raises(ValueError, match="cannot be stored"):
            run.once("bad", lambda: {"x": object()})
        with pytest.raises(ValueError, match="x of dtype bfloat16 would be read back as bytes"):
            run.once("bad", lambda: {"x": jnp.ones(2, jnp.bfloat16)})
        with pytest.raises(ValueError, match="'file' is an argument"):
            run.once("bad", lambda: {"file": 1})
        assert not (tmp_path / "results" / "bad.npz").exists()


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no npz"]
)
def test_a_damaged_phase_is_named(tmp_path, damage):
    with Run(tmp_path, Config()) as run:
        run.once("phase", lambda: {"a": np.arange(100.0)})
        file = tmp_path / "results" / "phase.npz"
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(ValueError, match=r"phase\.npz cannot be read.*Remove it"):
            run.once("phase", lambda: {"a": 1})


def test_figures_are_png_files_in_the_house_style(tmp_path):
    @styled
    def draw():
        figure, axes = subplots()
        axes.plot([1, 2])
        assert not axes.spines["top"].get_visible()
        return figure

    with Run(tmp_path, Config()) as run:
        path = run.figure("line", draw())
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.read_bytes() == run.figure("again", draw()).read_bytes()


def test_nothing_partial_is_left_behind(tmp_path):
    with Run(tmp_path, Config()) as run:
        run.write_claims([Claim("A", "s", "", "", "reported")])
        run.write_text("a.txt", "å")
    assert not list(tmp_path.rglob("*.partial"))
    assert (tmp_path / "artifacts" / "a.txt").read_text("utf-8") == "å"
