"""What every experiment shares: run directory, metrics, checkpoints, claims, figures, report.

```
from jaxlab.runs import Claim, Run, holds, spread

with Run("out/mine", config) as run:
    losses = run.once("train", lambda: {"loss": train(config)})["loss"]
    run.write_claims([Claim("M1", "it learns", "", str(spread(losses)), holds(losses.max() < 1))])
```
"""

from jaxlab.runs.checkpoints import latest_step, restore_checkpoint, save_checkpoint
from jaxlab.runs.claims import (
    VERDICTS,
    Claim,
    claim_order,
    count_verdicts,
    format_claims,
    holds,
    not_run,
    read_claims,
    write_claims,
)
from jaxlab.runs.digest import digest
from jaxlab.runs.divergence import check_finite
from jaxlab.runs.environment import (
    describe_environment,
    enable_compilation_cache,
    quick_compiler_flags,
)
from jaxlab.runs.launch import launch
from jaxlab.runs.metrics import read_metrics
from jaxlab.runs.options import (
    check_choices,
    check_least,
    config_from_flags,
    define_flags,
    option,
)
from jaxlab.runs.progress import progress
from jaxlab.runs.record import record
from jaxlab.runs.report import report
from jaxlab.runs.run import Run, WorkdirError
from jaxlab.runs.spread import Spread, spread
from jaxlab.runs.study_key import study_key

__all__ = [
    "VERDICTS",
    "Claim",
    "Run",
    "Spread",
    "WorkdirError",
    "check_choices",
    "check_finite",
    "check_least",
    "claim_order",
    "config_from_flags",
    "count_verdicts",
    "define_flags",
    "describe_environment",
    "digest",
    "enable_compilation_cache",
    "format_claims",
    "holds",
    "latest_step",
    "launch",
    "not_run",
    "option",
    "progress",
    "quick_compiler_flags",
    "read_claims",
    "read_metrics",
    "record",
    "report",
    "restore_checkpoint",
    "save_checkpoint",
    "spread",
    "study_key",
    "write_claims",
]
