"""Figures of AutoPRM's experiment; each takes measured arrays and returns a Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxlab.prm.compact import EPSILONS
from jaxlab.prm.tampering import Drift
from jaxlab.runs.figures import BLUE, GREEN, GREY, PALETTE, band, styled, subplots

ARMS = {
    "autoprm": "AutoPRM",
    "orm": "outcome reward",
    "sft_continued": "fine-tuning continued",
    "autoprm_no_cgd": "without context",
    "prm_few_labels": "verifier of few labels",
    "rollout_labels": "labels from rollouts",
    "oracle": "exact sub-answers",
}
_WAYS = {
    "one_step": "one step, majority",
    "sampled": "one sample",
    "majority": "majority",
    "best_min": "best of k (min)",
    "best_prod": "best of k (prod)",
    "weighted": "weighted vote",
    "reranked": "reranked by step",
    "passed": "any of k",
}


@styled
def accuracy_by_round(curves: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Final and step accuracy [seeds, rounds + 1] of the arms on the main problems."""
    curves = {name: curve for name, curve in curves.items() if name in ARMS}
    figure, axes = subplots(1, 2, width=9.0, height=3.4)
    for ax, field in zip(axes, ("final", "step"), strict=True):
        for color, (name, curve) in zip(PALETTE, curves.items(), strict=False):
            band(
                ax,
                np.arange(curve[field].shape[1]),
                curve[field],
                color=color,
                label=ARMS[name],
            )
        ax.set(xlabel="round", ylabel=f"{field} accuracy", xticks=range(curve[field].shape[1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def checkpoint_rounds(curves: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Final accuracy [1, rounds + 1] of each arm of a checkpoint."""
    figure, axes = subplots(width=5.5, height=3.4)
    for color, (name, curve) in zip(PALETTE, curves.items(), strict=False):
        axes.plot(curve["final"][0], ".-", color=color, label=ARMS[name])
    axes.set(xlabel="round", ylabel="final accuracy", xticks=range(curve["final"].shape[1]))
    axes.legend(fontsize="small")
    return figure


@styled
def tampering(curves: dict[str, dict[str, np.ndarray]], drift: dict[str, Drift]) -> Figure:
    """The verifier's reward beside the truth: measured, and in the closed form."""
    figure, (measured, closed) = subplots(1, 2, width=9.0, height=3.4)
    for color, name in zip(PALETTE, ("autoprm", "autoprm_no_cgd"), strict=False):
        curve = curves[name]
        rounds = np.arange(curve["step"].shape[1])
        label = "with context" if name == "autoprm" else "without"
        measured.plot(
            rounds, curve["reward"].mean(0), "--", color=color, label=f"verifier, {label}"
        )
        measured.plot(rounds, curve["step"].mean(0), color=color, label=f"truth, {label}")
    measured.set(xlabel="round", ylabel="mean over steps", title="measured", xticks=rounds)
    for color, name in zip(PALETTE, ("with", "without"), strict=False):
        rounds = np.arange(len(drift[name].right))
        label = "with context" if name == "with" else "without"
        closed.plot(rounds, drift[name].reward, "--", color=color, label=f"verifier, {label}")
        closed.plot(rounds, drift[name].right, color=color, label=f"truth, {label}")
    closed.set(xlabel="round", title="closed form, two readings")
    figure.legend(*closed.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def granularity(sweeps: Sequence[dict], plans: Sequence[dict]) -> Figure:
    """Accuracy at each granularity, and what the network makes of the switch."""
    figure, (accuracy, switch) = subplots(1, 2, width=9.0, height=3.4)
    for color, (name, label) in zip(
        PALETTE, (("greedy", "greedy"), ("budget", "12 samples a problem")), strict=False
    ):
        table = np.array([s[name] for s in sweeps])
        band(accuracy, np.asarray(sweeps[0]["epsilon"]), table, color=color, label=label)
    accuracy.set(xlabel="granularity", ylabel="final accuracy")
    accuracy.legend()
    realised = np.array([p["realised"].mean(1) for p in plans])
    band(switch, EPSILONS, realised, color=GREEN, label="network")
    switch.plot([0, 1], [0, 1], ":", color=GREY, label="as asked")
    switch.set(xlabel="asked granularity", ylabel="steps / steps of the full plan")
    switch.legend()
    return figure


@styled
def spending(votes: Sequence[dict]) -> Figure:
    """Accuracy of each way to spend k samples."""
    figure, axes = subplots(width=7.0, height=3.4)
    for row, (name, _) in enumerate(_WAYS.items()):
        values = [float(np.mean(v[name])) for v in votes]
        axes.barh(row, np.mean(values), color=BLUE, alpha=0.75)
        axes.plot(values, [row] * len(values), ".", color="0.2")
    axes.set(xlabel="final accuracy", yticks=range(len(_WAYS)), yticklabels=_WAYS.values())
    axes.invert_yaxis()
    return figure


@styled
def by_length(votes: Sequence[dict]) -> Figure:
    """Accuracy by the number of operations: reranked steps, and votes over one-step answers."""
    figure, axes = subplots(width=5.5, height=3.4)
    lengths = np.unique(np.concatenate([v["ops"] for v in votes]))
    for color, name in zip(PALETTE, ("reranked", "majority", "one_step"), strict=False):
        table = [[np.mean(v[name][v["ops"] == n]) for n in lengths] for v in votes]
        band(axes, lengths, np.array(table), color=color, label=_WAYS[name])
    axes.set(xlabel="operations", ylabel="final accuracy", xticks=lengths)
    axes.legend()
    return figure
