"""N4 where less or more is forgotten: every method, along its whole path, on the first model."""

from typing import Any

from jaxlab.runs import Claim, Run
from jaxlab.unlearn import figures
from jaxlab.unlearn.studies.tofu_bench import Bench
from jaxlab.unlearn.studies.tofu_comparison import (
    Comparison,
    compare,
    ends,
    epochs_at,
    listed,
    mean,
    table,
)

_PUBLISHED = {
    5.0: "forget05 FQ / MU: GA 1.9e-9 / 0.00, GradDiff 3.6e-9 / 0.56, IDK 1.9e-9 / 0.57, NPO 0.79 "
    "/ 0.57, SimNPO 0.99 / 0.58"
}
_SHOWN = ("NPO+RT", "SimNPO+RT", "GA", "GA+RT")


def measure(config, run: Run, bench: Bench, start: Any, main: Comparison) -> list[Claim]:
    """All methods at `other_percents`; no criterion was set for these.

    `main`: the same at `forget_percent`, for the figure.
    """
    if not config.other_percents:
        return []
    found = {
        percent: compare(config, run, bench, start, percent, config.tofu_methods)
        for percent in config.other_percents
    }
    panels = found | {config.forget_percent: main}
    run.figure(
        "tofu_percents",
        figures.tofu_percents(
            {
                percent: (one.paths, one.judged.report(one.judged.retrained_logs))
                for percent, one in sorted(panels.items())
            }
        ),
    )
    return [_claim(config, percent, one) for percent, one in found.items()]


def _claim(config, percent: float, found: Comparison) -> Claim:
    fq, mu, prob = (ends([found], field) for field in ("fq", "mu", "prob"))
    shown = [name for name in _SHOWN if name in fq]
    unseen = max(percent, config.forget_percent)
    return Claim(
        f"N4-{percent:g}",
        f"NPO balances forgetting and utility better than its baselines on TOFU, forget "
        f"{percent:g}%",
        _PUBLISHED.get(percent, ""),
        "FQ / MU: " + ", ".join(f"{name} {listed(fq[name])} / {mean(mu[name])}" for name in shown),
        "reported",
        detail=f"Mini-TOFU, {epochs_at(config, percent)} epochs at {config.lr:g}. "
        f"{table([found])} Forget probability: "
        + ", ".join(f"{name} {mean(value)}" for name, value in prob.items())
        + f". The retrained model never saw the last {unseen:g}%. A few questions make mild "
        "p-values even for bad models, and a collapsed model can reach a high FQ by accident; no "
        "criterion was set.",
    )
