"""Figures of the studies, from their stored results."""

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlab.runs.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    band,
    styled,
    subplots,
)

# One colour a family of methods, whatever its retain term.
_COLORS = {"GA": VERMILION, "NPO": BLUE, "SimNPO": GREEN, "IDK": ORANGE, "DPO": PURPLE, "KTO": SKY}
_STYLES = ("-", "--", "-.")  # of a method's settings


@styled
def divergence(result: dict, betas: tuple[float, ...]) -> Figure:
    """Distances from the start over steps: linear for GA, logarithmic for NPO."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    steps = np.arange(1, result["ga"].shape[1])
    shown = np.unique(np.geomspace(1, steps[-1], 300).astype(int))
    for axes in (left, right):
        band(axes, shown, result["ga"][:, shown], label="GA", color=VERMILION)
        for beta, curves, color in zip(betas, result["npo"], (BLUE, SKY, GREEN), strict=True):
            band(axes, shown, curves[:, shown], label=f"NPO, beta = {beta:g}", color=color)
        axes.set(xscale="log", xlabel="gradient steps")
    left.set(yscale="log", ylabel=r"distance $\|X(\theta_t - \theta_0)\|$")
    left.set_title("Both axes logarithmic: GA is linear in t")
    right.set_ylim(0, 1.1 * result["npo"].max())
    right.set_title("Distance linear: NPO is linear in log t")
    right.legend(loc="upper left")
    return figure


@styled
def random_features(paths: dict) -> Figure:
    """Retain over forget distance along the path, one panel a distance of the clouds."""
    figure, panels = subplots(1, len(paths), width=4.4 * len(paths), height=3.4, squeeze=False)
    for axes, (where, found) in zip(panels[0], paths.items(), strict=True):
        for name, path in found.items():
            forget, retain = (path[part].mean(0) for part in ("forget", "retain"))
            axes.plot(forget, retain, color=color_of(name), linestyle=dashes(name), label=name)
            axes.plot(forget[-1:], retain[-1:], "o", color=color_of(name))
        start = [path["forget"].mean(0)[0], path["retain"].mean(0)[0]]
        axes.plot(*start, "k*", markersize=9)
        axes.annotate("start", start, (-6, 8), textcoords="offset points", ha="right", fontsize=8)
        axes.set(yscale="log", xlabel="distance on what is forgotten, nats")
        axes.set_title(f"clouds at {where.replace('_', ' = ')} (0, 0 is retraining)")
    panels[0][0].set_ylabel("distance on what is kept, nats")
    panels[0][-1].legend()
    return figure


@styled
def beta_to_zero(sweep: dict, betas: tuple[float, ...]) -> Figure:
    """Distances over steps of GA and of NPO with ever smaller beta."""
    figure, axes = subplots(1, 2, width=8.6, height=3.2)
    colors = ("0.75", SKY, BLUE, GREEN, PURPLE)
    for panel, part in zip(axes, ("forget", "retain"), strict=True):
        place = np.linspace(0, 1, sweep["ga"][part].shape[1])
        for beta, path, color in zip(betas, sweep["npo"][part], colors, strict=True):
            panel.plot(place, path.mean(0), color=color, label=f"NPO, beta = {beta:g}")
        panel.plot(place, sweep["ga"][part].mean(0), "--", color=VERMILION, label="GA")
        panel.set(xlabel="share of the steps", ylabel="distance from retraining, nats")
    axes[0].set_title("On what is forgotten")
    axes[1].set_title("On what is kept")
    axes[1].legend()
    return figure


@styled
def markov(result: dict, name: str) -> Figure:
    """Divergence on both forgotten chains over that on the retained one, along the path."""
    figure, axes = subplots(1, 2, width=8.6, height=3.3, sharey=True)
    labels = {
        "length": ("long answers (20 states)", "short answers (5 states)"),
        "memorisation": ("memorised in training", "never seen in training"),
    }[name]
    for panel, chain, title in zip(axes, ("forget1", "forget2"), labels, strict=True):
        for method, path in result["paths"].items():
            panel.plot(
                path["retain"].mean(0),
                path[chain].mean(0),
                color=color_of(method),
                linestyle="-" if method in ("NPO 0.2", "SimNPO 4", "GA") else "--",
                label=method,
            )
        retrained = float(result["retrained"][chain])
        panel.axhline(retrained, color=GREY, linestyle=":", linewidth=1)
        panel.annotate(
            "retrained",
            (0.98, retrained),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.4",
        )
        panel.set(xlabel="divergence on what is kept, nats", xlim=(0, 0.6), ylim=(0, 3))
        panel.set_title(f"Forget: {title}")
    axes[0].set_ylabel("divergence on what is forgotten, nats")
    axes[1].legend()
    return figure


def color_of(method: str) -> str:
    """The colour of a method's family, by a name such as `NPO+RT` or `SimNPO 4`."""
    return _COLORS.get(re.split("[+ ]", method)[0], GREY)


def dashes(method: str) -> str:
    """Solid with a retain term, dashed without, dotted for variants."""
    if " halved" in method or method.endswith("+KL"):
        return ":"
    return "-" if method.endswith("+RT") else "--"


@styled
def tofu_paths(paths: dict, retrained) -> Figure:
    """Model utility over forget quality, and forgetting over epochs, of every method."""
    figure, (left, right) = subplots(1, 2, width=9.2, height=3.6)
    _balance(left, paths, retrained)
    for name, path in paths.items():
        style = {"color": color_of(name), "linestyle": dashes(name)}
        right.plot(np.linspace(0, 1, len(path["nll"])), path["nll"], **style)
    left.set_title("Forgetting against utility along the way")
    left.set_ylabel("model utility")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    right.set(xlabel="share of the epochs", ylabel="nats per token", yscale="log")
    right.set_title("NLL of the answers to forget")
    return figure


@styled
def tofu_percents(found: dict) -> Figure:
    """Utility over forget quality along every method's way, a panel a share of the rows.

    found: of each share, percent, the paths and the report of the retrained model.
    """
    figure, panels = subplots(1, len(found), width=3.1 * len(found), height=3.4, squeeze=False)
    for panel, (percent, (paths, retrained)) in zip(panels[0], found.items(), strict=True):
        _balance(panel, paths, retrained)
        panel.set(ylim=(-0.03, 1))
        panel.set_title(f"forget {percent:g}%")
    panels[0][0].set_ylabel("model utility")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6)
    return figure


def _balance(axes: Axes, paths: dict, retrained) -> None:
    """Utility over forget quality: a line a method with its end marked, original, retrained."""
    for name, path in paths.items():
        color = color_of(name)
        log_quality = np.log10(np.maximum(path["fq"], 1e-30))
        axes.plot(log_quality, path["mu"], dashes(name), marker=".", color=color, label=name)
        axes.plot(log_quality[-1:], path["mu"][-1:], "o", color=color)
    first = next(iter(paths.values()))
    axes.plot(np.log10(first["fq"][:1]), first["mu"][:1], "k*", markersize=9, label="original")
    axes.plot([0], [retrained.model_utility], "kP", markersize=8, label="retrained")
    axes.axvline(np.log10(0.05), color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel="log10 forget quality")


@styled
def search(rows: list[dict], selected: list[dict]) -> Figure:
    """Utility over forget quality of every checkpoint of a search, a panel a share of the rows."""
    shares = sorted({row["percent"] for row in rows})
    figure, panels = subplots(1, len(shares), width=3.6 * len(shares), height=3.3, squeeze=False)
    for panel, percent in zip(panels[0], shares, strict=True):
        here = [row for row in rows if row["percent"] == percent]
        for name in dict.fromkeys(row["method"] for row in here):
            mine = [row for row in here if row["method"] == name]
            quality = [np.log10(max(row["fq"], 1e-30)) for row in mine]
            panel.plot(quality, [row["mu"] for row in mine], ".", color=color_of(name), label=name)
        for row in selected:
            if row["percent"] == percent:
                place = np.log10(max(row["fq"], 1e-30)), row["mu"]
                panel.plot(*place, "o", markersize=10, fillstyle="none", color=BLACK)
        panel.set(xlabel="log10 forget quality", ylim=(0, 1))
        panel.set_title(f"forget {percent:g}% (circle: selected)")
    panels[0][0].set_ylabel("model utility")
    panels[0][-1].legend()
    return figure


@styled
def weights(result: dict) -> Figure:
    """Weight of each forget example over its length, early and late."""
    names = [name for name in ("NPO+RT", "SimNPO+RT") if name in result]
    figure, axes = subplots(1, len(names), width=4.4 * len(names), height=3.1, squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        for step, label, color in (
            (0, "start", SKY),
            (1, "first snapshot", BLUE),
            (-1, "end", VERMILION),
        ):
            panel.plot(result["length"], result[name][step], ".", color=color, label=label)
        panel.set(xlabel="tokens of the answer", ylabel="weight of its gradient")
        panel.set_title(name)
    axes[0][0].legend()
    return figure


@styled
def sweeps(found: dict) -> Figure:
    """Forget quality and utility over one setting at a time."""
    figure, axes = subplots(2, len(found), width=3.1 * len(found), height=4.4, squeeze=False)
    for column, (name, sweep) in zip(axes.T, found.items(), strict=True):
        values = list(sweep)
        color = BLUE if name == "retain weight" else GREEN
        quality = [np.log10(max(row["fq"], 1e-30)) for row in sweep.values()]
        column[0].plot(values, quality, "o-", color=color)
        column[1].plot(values, [row["mu"] for row in sweep.values()], "o-", color=color)
        column[1].set(xlabel=name)
        column[0].set_title("NPO+RT" if name == "retain weight" else "SimNPO+RT")
    axes[0][0].set_ylabel("log10 forget quality")
    axes[1][0].set_ylabel("model utility")
    return figure


@styled
def half(paths: dict, retrained) -> Figure:
    """Utility over forget probability, every epoch of every setting."""
    figure, axes = subplots(width=6.4, height=3.6)
    for label, path in paths.items():
        name, number = label.rsplit(" ", 1)
        axes.plot(
            np.maximum(path["prob"], 1e-6),
            path["mu"],
            _STYLES[int(number) - 1],
            marker="o" if "RT" in name else "^",
            color=color_of(name),
            label=f"{name}, setting {number}",
        )
    axes.axhline(retrained.model_utility, color=GREY, linestyle=":", linewidth=1)
    axes.axvline(0.01, color=GREY, linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="probability of forgotten answers", ylabel="model utility")
    axes.invert_xaxis()
    axes.set_title("Half of the authors forgotten (dotted: retrained)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def evenness(ends: dict, length: np.ndarray, halves: list) -> Figure:
    """NLL over answer length, and forget probability of strong and weak memories."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    for name, logs in ends.items():
        nll = logs["eval_log_forget.json"]["avg_gt_loss"]
        left.plot(length[: len(nll)], nll, ".", color=color_of(name), label=name)
    left.set(xlabel="tokens of the answer", ylabel="nats per token after unlearning")
    left.set_title("Over answer length")
    left.legend()
    names = ["original", *ends]
    for offset, (strong, label) in enumerate(((True, "seen often"), (False, "seen rarely"))):
        probs = [
            [half[name]["prob"][half["strong"] == strong].mean() for half in halves]
            for name in names
        ]
        place = np.arange(len(names)) + 0.36 * offset
        right.bar(place, np.mean(probs, 1), 0.34, label=label, color=(BLUE, SKY)[offset])
        right.plot(place, probs, ".", color=BLACK)
    right.set_xticks(np.arange(len(names)) + 0.18, names)
    right.set(yscale="log", ylabel="probability of the answers to forget")
    right.set_title("Over how well they were known")
    right.legend()
    return figure


@styled
def relearning(found: dict) -> Figure:
    """Forget probability over epochs of the attack, one panel a choice of rows."""
    modes = [name for name in found["retrained"] if name != "nll"]
    figure, axes = subplots(1, len(modes), width=4.3 * len(modes), height=3.2, squeeze=False)
    for panel, mode in zip(axes[0], modes, strict=True):
        for name, color in (("NPO+RT", BLUE), ("SimNPO+RT", GREEN), ("retrained", GREY)):
            for i, row in enumerate(found[name][mode]):
                panel.plot(row, "o-", color=color, alpha=0.8, label=None if i else name)
        panel.set(xlabel="epochs of relearning", ylim=(0, None))
        panel.set_title(f"{mode} fifth of the forget set")
        panel.set_xticks(range(len(row)))
    axes[0][0].set_ylabel("probability of forgotten answers")
    axes[0][0].legend()
    return figure


@styled
def muse(found: dict) -> Figure:
    """The four metrics of MUSE, a group of bars each."""
    figure, axes = subplots(1, 4, width=10.0, height=3.2)
    titles = {
        "verbmem": "verbatim memory",
        "knowmem_forget": "knowledge, forget",
        "knowmem_retain": "knowledge, retain",
        "privleak": "privacy leakage",
    }
    names = list(found)
    colors = [{"original": BLACK, "retrained": GREY}.get(name, color_of(name)) for name in names]
    for panel, (metric, title) in zip(axes, titles.items(), strict=True):
        panel.bar(names, [float(found[name][metric]) for name in names], color=colors)
        panel.set_title(title)
        panel.tick_params(axis="x", rotation=60)
        panel.grid(axis="x", visible=False)
    axes[3].axhline(0, color=BLACK, linewidth=0.8)
    axes[0].set_ylabel("percent")
    return figure
