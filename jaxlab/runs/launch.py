"""The whole of a script: flags, run directory, experiment, claims on the screen."""

import dataclasses
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

from absl import app, flags, logging

from jaxlab import parallel
from jaxlab.runs.claims import count_verdicts, format_claims
from jaxlab.runs.environment import enable_compilation_cache, keep_freed_memory
from jaxlab.runs.options import (
    check_choices,
    config_from_flags,
    define_flags,
    define_options,
    given_flags,
    options_from_flags,
)
from jaxlab.runs.run import Run

flags.disclaim_key_flags()  # as in options.py


def launch(name: str, experiment: ModuleType | SimpleNamespace) -> None:
    """Runs a system's experiment from the command line and ends the process.

    Args:
      name: the system's name, which is the script's.
      experiment: a module with `PRESETS`, a dict of Config dataclasses, and
        `run(config, run) -> list[Claim]`. A dataclass `Options` in it, whose fields have defaults,
        holds what a script may be told besides that does not change the numbers (its flags do not
        make another run); an instance is then the third argument of `run`.

    The process ends with 0 when the run completes, whatever the verdicts; with 1 and one line on
    what is wrong when it cannot; with 130 when it is interrupted, and the same command goes on
    from the last checkpoint.
    """
    define_flags(experiment.PRESETS)
    if hasattr(experiment, "Options"):
        define_options(experiment.Options())
    flags.DEFINE_string("workdir", None, "Run directory; by default out/NAME/PRESET.")
    flags.DEFINE_bool("overwrite", False, "Replace a run with other settings in the workdir.")
    flags.DEFINE_string(
        "wandb", None, "Project at Weights & Biases that metrics are sent to, too; needs wandb."
    )
    flags.DEFINE_bool("traceback", False, "Show where an error arose.")
    flags.DEFINE_string("coordinator_address", None, "host:port of process 0, on several machines.")
    flags.DEFINE_integer("num_processes", None, "How many processes take part.")
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
    app.run(lambda argv: _main(name, experiment, argv))


def _main(name: str, experiment: ModuleType | SimpleNamespace, argv: Sequence[str]) -> int:
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # jax tells at INFO which backends it did not find
    enable_compilation_cache()
    keep_freed_memory()
    try:
        parallel.start_distributed(
            values.coordinator_address, values.num_processes, values.process_id
        )
        config = config_from_flags(experiment.PRESETS)
        check_choices(config)
        workdir = Path(values.workdir or Path("out") / name / values.preset)
        with Run(
            workdir,
            config,
            overwrite=values.overwrite,
            preset=values.preset,
            wandb=values.wandb,
        ) as run:
            _measure(name, experiment, config, run)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if values.traceback:
            traceback.print_exc()
        print(f"{name}: error: {error}", file=sys.stderr)
        if not values.traceback:
            print("--traceback shows where it arose", file=sys.stderr)
        return 1
    return 0


def _measure(name: str, experiment: ModuleType | SimpleNamespace, config, run: Run) -> None:
    options = [options_from_flags(experiment.Options())] if hasattr(experiment, "Options") else []
    fields = ["preset", *(field.name for field in dataclasses.fields(config))]
    start = time.perf_counter()
    try:
        claims = experiment.run(config, run, *options)
    finally:
        # Of a run that is stopped, too: what goes on from there adds its own.
        seconds = time.perf_counter() - start
        wall_seconds = run.add_seconds(seconds)
    run.write_summary(
        {
            "system": name,
            # The flags that chose the numbers: not where they were written to.
            "command": shlex.join(["python", f"scripts/{name}.py", *given_flags(fields)]),
            "wall_seconds": round(wall_seconds, 1),
        }
    )
    counts = ", ".join(f"{count} {verdict}" for verdict, count in count_verdicts(claims).items())
    print(format_claims(claims))
    print(f"\n{name}: {counts}; {seconds:.0f} s; written to {run.workdir}")
