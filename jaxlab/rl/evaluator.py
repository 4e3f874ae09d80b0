"""The process that tests the newest policy: `python -m jaxlab.rl.evaluator`.

Writes a line of JSON to standard output for each evaluation, and for what else it has to say.
"""

import importlib
import json
import os
import time
from typing import NamedTuple

from jaxlab.rl.child_process import read_settings
from jaxlab.rl.evaluation import evaluate_episodes
from jaxlab.rl.recorder import Recorder, RecordSettings
from jaxlab.rl.stop_words import StopHandle, StopWords
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.rl.weight_board import BoardHandle, WeightBoard


class EvaluatorSettings(NamedTuple):
    """What the evaluator is told.

    Attributes:
      board, stop: where to read, and look for the end (its first flag).
      env_id, n_episodes, seed: see `make_vec_env`; every evaluation starts from the same states.
      every_s: seconds from the start of one evaluation to that of the next.
      import_module: imported first, to register environments; None for none.
      pictures: which episodes are drawn; None for none.
      parent: the process without which it ends.
    """

    board: BoardHandle
    stop: StopHandle
    env_id: str
    n_episodes: int
    seed: int
    every_s: float
    import_module: str | None
    pictures: RecordSettings | None
    parent: int


def evaluate_for_ever(settings: EvaluatorSettings) -> None:
    """Evaluates each newest version until the flag is up or the parent is gone."""
    if settings.import_module:
        importlib.import_module(settings.import_module)
    stop, board = StopWords.attach(settings.stop), WeightBoard.attach(settings.board)
    recorder = Recorder(
        settings.pictures, lambda text: print(json.dumps({"said": text}), flush=True)
    )
    evaluated = 0

    def goes_on():
        return not stop.is_raised(0) and os.getppid() == settings.parent

    while goes_on():
        start = time.monotonic()
        if board.version() > evaluated:
            evaluated, params = board.read()
            # A fresh environment each time: the same starts for every version.
            env = make_vec_env(settings.env_id, settings.n_episodes, settings.seed)
            returns = evaluate_episodes(env, params)
            env.close()
            line = {
                "version": evaluated,
                "mean_return": float(returns.mean()),
                "start": start,
                "end": time.monotonic(),
            }
            print(json.dumps(line), flush=True)
            recorder.look(params)
        while goes_on() and time.monotonic() < start + settings.every_s:
            time.sleep(0.05)


if __name__ == "__main__":
    evaluate_for_ever(read_settings())
