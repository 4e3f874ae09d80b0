"""S7: a few steps of fine-tuning on a fifth of the forget set bring how much of it back?"""

from typing import Any

import jax
import numpy as np
import optax

from jaxlab.runs import Claim, Run, progress, study_key
from jaxlab.unlearn import figures
from jaxlab.unlearn.answers import answer_lengths, answer_nll, scoring
from jaxlab.unlearn.data import relearn_subset
from jaxlab.unlearn.studies.tofu_bench import Bench, retrained, take, verdict
from jaxlab.unlearn.studies.tofu_quarter import PERCENT, Quarter
from jaxlab.unlearn.training import relearn

STATEMENTS = {
    "S7": "SimNPO is more robust to relearning attacks than NPO",
}
_EPOCHS, _BATCH, _RATE, _SHARE = 3, 8, 5e-4, 0.2
_OPTIMIZER = optax.adamw(_RATE, weight_decay=0.0)
# How much two models may differ and still be a pair: nats per token on the forget set, and model
# utility. A tenth of a nat is at most 0.04 of forget probability where it is below 0.4.
_SAME_NLL, _SAME_UTILITY = 0.1, 0.02


def measure(config, run: Run, bench: Bench, start: Any, quarter: Quarter) -> list[Claim]:
    """Attacks the models along both methods' paths, paired by what they have forgotten and kept."""
    control = retrained(bench, run, start, PERCENT)
    modes = config.relearn

    def attack_all() -> dict:
        found = {
            "retrained": _attack(config, bench, jax.tree.map(lambda x: x[None], control), modes)
        }
        for name, path in progress(quarter.paths.items(), "relearning"):
            found[name] = _attack(config, bench, path, modes)
        return found

    def utilities() -> dict:
        judged = quarter.judged
        logs = {name: judged.evaluation.path_logs(path) for name, path in quarter.paths.items()}
        return {name: judged.path(steps)["mu"][1:] for name, steps in logs.items()}

    found = run.once("tofu_relearning_attacks", attack_all)
    utility = run.once("tofu_relearning_utility", utilities)
    run.figure("relearning", figures.relearning(found))
    return [_claim(config, found, utility)]


def _attack(config, bench: Bench, models: Any, modes: tuple[str, ...]) -> dict:
    """Forget probability after each epoch, `[models, epochs + 1]` for each choice of rows.

    Also `nll` `[models]`, that of the forget answers before the attack.
    """
    rows = take(bench.author_rows, bench.split(PERCENT)[1])
    every = [jax.tree.map(lambda x, i=i: x[i], models) for i in range(_count(models))]
    before = np.array([_nll(bench, params, rows) for params in every])  # [models, rows]
    found = {"nll": before.mean(1)}
    rows_key = study_key(config, "relearning: rows")
    hidden_fn, head = scoring(bench.speaker.cfg)
    order_key = study_key(config, "relearning: order")
    for mode in modes:
        chosen = relearn_subset(rows_key, answer_lengths(rows), fraction=_SHARE, mode=mode)
        batch_size = min(_BATCH, len(chosen))
        after = []
        for params in every:
            path = relearn(
                order_key,
                hidden_fn,
                params,
                take(rows, chosen),
                optimizer=_OPTIMIZER,
                num_steps=_EPOCHS * -(-len(chosen) // batch_size),
                batch_size=batch_size,
                num_snapshots=_EPOCHS,
                head=head,
            ).params
            epochs = [jax.tree.map(lambda x, e=e: x[e], path) for e in range(_EPOCHS)]
            after.append([np.exp(-_nll(bench, model, rows)).mean() for model in epochs])
        found[mode] = np.column_stack([np.exp(-before).mean(1), after])
    return found


def _count(models: Any) -> int:
    return len(jax.tree.leaves(models)[0])


def _nll(bench: Bench, params: Any, rows) -> np.ndarray:
    return answer_nll(bench.speaker, params, rows)


def _pairs(nll: dict, utility: dict) -> list[tuple[int, int]]:
    """(SimNPO's model, NPO's) for each of SimNPO's that has a match: the nearest in NLL."""
    pairs = []
    for i, (loss, mu) in enumerate(zip(nll["SimNPO+RT"], utility["SimNPO+RT"], strict=True)):
        apart = np.abs(nll["NPO+RT"] - loss)
        same = (apart <= _SAME_NLL) & (np.abs(utility["NPO+RT"] - mu) <= _SAME_UTILITY)
        if same.any():
            pairs.append((i, int(np.where(same, apart, np.inf).argmin())))
    return pairs


def _claim(config, found: dict, utility: dict) -> Claim:
    modes = [name for name in found["retrained"] if name != "nll"]
    npo, simple = found["NPO+RT"], found["SimNPO+RT"]
    nll = {name: found[name]["nll"] for name in utility}
    pairs = _pairs(nll, utility)
    gaps = np.array([npo[mode][j, 1] - simple[mode][i, 1] for mode in modes for i, j in pairs])
    control = max(found["retrained"][mode][0, -1] for mode in modes)
    ends = [
        f"{name} {mode} {end.min():.2f} to {end.max():.2f}"
        for name in ("NPO+RT", "SimNPO+RT")
        for mode in modes
        for end in (found[name][mode][:, -1],)
    ]
    compared = "no two models match in NLL and MU"
    if pairs:
        compared = (
            f"SimNPO lower after one epoch in {(gaps > 0).sum()} of {gaps.size} pairs (gaps "
            f"{gaps.min():.3f} to {gaps.max():.3f})"
        )
    shown = {
        name: [f"{loss:.2f} / {mu:.3f}" for loss, mu in zip(nll[name], utility[name], strict=True)]
        for name in utility
    }
    matched = [f"{shown['SimNPO+RT'][i]} with {shown['NPO+RT'][j]}" for i, j in pairs]
    return Claim(
        "S7",
        STATEMENTS["S7"],
        "lower forget quality lost after relearning 20% (Fig. 6)",
        f"{compared}; retrained control {control:.3f}",
        verdict(config, control <= 0.05),
        detail=f"Forget probability after fine-tuning on {_SHARE:.0%} of the forget questions "
        f"({', '.join(modes)}), {_EPOCHS} epochs at {_RATE:g}; models along both paths at the same "
        f"learning rate and epochs, paired within {_SAME_NLL:g} nats of NLL and {_SAME_UTILITY:g} "
        "of MU: "
        + (", ".join(matched) or "none")
        + ". NLL / MU of all: "
        + "; ".join(f"{name} {', '.join(models)}" for name, models in shown.items())
        + f". After {_EPOCHS} epochs: {', '.join(ends)}. What comes back is residual memory. The "
        "comparison is reported. Criterion: the retrained control stays <= 0.05.",
    )
