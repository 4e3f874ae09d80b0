import os
import signal

import jax
import pytest

from jaxlab import rl
from jaxlab.rl import evaluator_process
from jaxlab.rl.evaluator_process import EvaluatorProcess
from jaxlab.rl.learner import policy_of
from tests.rl.test_host import CONFIG, SMALL, children
from tests.rl.waiting import wait_until

POLICY = policy_of(rl.sac_init(jax.random.key(0), CONFIG))


@pytest.fixture
def board():
    with rl.WeightBoard.create(POLICY) as board:
        board.publish(POLICY)
        yield board


def hears(evaluator, key):
    """Waits for a report with that key."""
    found = []

    def heard():
        evaluator.watch()
        found.extend(evaluator.reports())
        return any(key in report for report in found)

    wait_until(heard)
    return next(report[key] for report in found if key in report)


def test_one_that_is_killed_is_started_again(board):
    with EvaluatorProcess(board.handle, "numpy:pendulum", 2, 0, 1000.0) as evaluator:
        first = hears(evaluator, "mean_return")
        killed = evaluator.pid()
        os.kill(killed, signal.SIGKILL)
        said = hears(evaluator, "said")
        assert said == "the evaluator died with exit code -9: it is started again (1 of 3 times)"
        assert evaluator.pid() != killed
        assert hears(evaluator, "mean_return") == first, "of the same starts"
    assert children() == []


def test_what_an_environment_prints_is_passed_on(board, tmp_path, monkeypatch):
    printed = ["no json", "5", '{"mean_return": 1}']
    lines = "".join(f"print({line!r})\n" for line in printed)
    (tmp_path / "printing_envs.py").write_text(lines)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with EvaluatorProcess(
        board.handle, "numpy:pendulum", 2, 0, 1000.0, "printing_envs"
    ) as evaluator:
        found = []

        def evaluated():
            found.extend(evaluator.reports())
            return any("version" in report for report in found)

        wait_until(evaluated)
    assert [report.get("said") for report in found] == [*printed, None]


def test_one_that_keeps_dying_is_done_without(board, monkeypatch):
    monkeypatch.setattr(evaluator_process, "_MAX_RESTARTS", 1)
    with EvaluatorProcess(board.handle, "numpy:nothing", 2, 0, 1000.0) as evaluator:
        assert "it is started again (1 of 1 times)" in hears(evaluator, "said")
        said = hears(evaluator, "said")
        assert "training goes on without evaluations" in said
        assert "env_id must be numpy:pendulum or gym:ID" in said
        assert evaluator.pid() is None
        evaluator.watch()
        assert evaluator.reports() == []


def test_training_goes_on_when_its_evaluator_is_killed(monkeypatch, capfd):
    evaluators, evaluations = [], []

    class Watched(EvaluatorProcess):
        def __init__(self, *args):
            super().__init__(*args)
            evaluators.append(self)

    class SeenEnoughError(Exception):
        pass

    def look(line):
        evaluations.append(line["updates"])
        if len(evaluations) == 2:
            raise SeenEnoughError
        os.kill(evaluators[0].pid(), signal.SIGKILL)

    monkeypatch.setattr("jaxlab.rl.async_training.EvaluatorProcess", Watched)
    # Each evaluates once, at its start.
    host = rl.HostConfig(**SMALL | {"eval_every_s": 1000.0, "max_seconds": 1000.0})
    with pytest.raises(SeenEnoughError):
        rl.train_host(jax.random.key(0), CONFIG, host, on_eval=look)
    assert evaluations[1] > 0, "updates were made meanwhile"
    assert "the evaluator died with exit code -9: it is started" in capfd.readouterr().out
    assert children() == []
