import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

SCRIPT = """
    import dataclasses, signal, time, types

    # Ignored by what a shell starts in the background, and so by its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from jaxlab.runs import Claim, holds, launch, option

    @dataclasses.dataclass(frozen=True)
    class Config:
        size: int = option(3, "how large")
        fault: str = option("none", "what goes wrong", choices=("none", "value", "hang"))
        seed: int = option(0, "seed")

    @dataclasses.dataclass(frozen=True)
    class Options:
        greeting: str = option("", "what is said first")

    def run(config, run, options):
        if options.greeting:
            print(options.greeting)
        if config.fault == "value":
            raise ValueError("size 3 is odd; pass an even --size")
        if config.fault == "hang":
            print("hanging", flush=True)
            time.sleep(60)
        run.log(1, size=config.size)
        return run.write_claims([
            Claim("T1", "it fits", "", str(config.size), holds(config.size < 4)),
        ])

    launch("toy", types.SimpleNamespace(
        PRESETS={"smoke": Config(), "small": Config(size=4)}, Options=Options, run=run))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(textwrap.dedent(SCRIPT))

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    return start


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_run_from_flags_to_claims(script, tmp_path):
    code, out, _ = finish(script("--preset=small"))
    assert code == 0, "a failed claim does not fail the script"
    assert "0 pass, 1 fail" in out
    workdir = tmp_path / "out" / "toy" / "small"
    assert json.loads((workdir / "claims.json").read_text())[0]["verdict"] == "fail"
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["system"] == "toy"
    assert "--preset=small" in summary["command"]
    (workdir / "seconds.json").write_text('{"wall_seconds": 1000}')
    assert finish(script("--preset=small"))[0] == 0
    assert json.loads((workdir / "summary.json").read_text())["wall_seconds"] >= 1000
    code, _, err = finish(script("--preset=small", "--size=2"))
    assert code == 1
    assert "size: 4 there, 2 here" in err
    assert finish(script("--preset=small", "--size=2", "--overwrite"))[0] == 0


def test_options_reach_the_run_and_make_no_other_run_of_it(script, tmp_path):
    code, out, err = finish(script("--size=2"))
    assert code == 0, err
    code, out, err = finish(script("--size=2", "--greeting=hello"))
    assert code == 0, err
    assert out.startswith("hello\n")
    workdir = tmp_path / "out" / "toy" / "smoke"
    assert "greeting" not in (workdir / "config.json").read_text()
    assert "greeting" not in json.loads((workdir / "summary.json").read_text())["command"]


def test_errors_are_one_line_unless_asked(script):
    code, _, err = finish(script("--fault=value"))
    assert code == 1
    assert "toy: error: size 3 is odd; pass an even --size" in err
    assert "Traceback" not in err
    assert "Traceback" in finish(script("--fault=value", "--traceback"))[2]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--sise=3", "size"), ("--fault=fire", "none, value, hang"), ("stray", "unexpected")],
)
def test_wrong_flags(script, argument, message):
    code, out, err = finish(script(argument))
    assert code == 1
    assert message in out + err


def test_help_shows_the_flags_of_the_config_and_those_of_every_script(script):
    _, out, _ = finish(script("--help"))
    for text in ("--size: how large", "--greeting", "--preset", "--[no]overwrite", "--workdir"):
        assert text in out


def test_metrics_go_to_weights_and_biases(script, tmp_path):
    module = """
        class Error(Exception):
            pass

        class Run:
            log = staticmethod(print)

            def define_metric(self, *args, **settings):
                pass

            def finish(self, exit_code):
                print("ended", exit_code)

        def init(**settings):
            print("project", settings["project"])
            return Run()
    """
    (tmp_path / "wandb.py").write_text(textwrap.dedent(module))
    code, out, err = finish(script("--wandb=mine"))
    assert code == 0, err
    for line in ("project mine", "{'step': 1, 'size': 3}", "ended 0"):
        assert line in out


def test_interrupt_leaves_a_run_that_goes_on(script, tmp_path):
    process = script("--fault=hang")
    assert process.stdout.readline() == "hanging\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "the same command goes on" in err
    workdir = tmp_path / "out" / "toy" / "smoke"
    assert (workdir / "config.json").exists()
    assert json.loads((workdir / "seconds.json").read_text())["wall_seconds"] > 0.05
