"""Figures of the studies, from their stored results."""

import numpy as np
from matplotlib.figure import Figure

from jaxlab.runs.figures import PALETTE, band, styled, subplots

BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK = PALETTE
GREY = "0.5"
# One colour a family of methods, whatever its retain term.
_COLORS = {"GA": VERMILION, "NPO": BLUE, "SimNPO": GREEN, "IDK": ORANGE, "DPO": PURPLE, "KTO": SKY}


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
        panel.axhline(result["retrained"]["forget2"], color=GREY, linestyle=":", linewidth=1)
        panel.annotate(
            "retrained",
            (0.98, float(result["retrained"]["forget2"])),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.4",
        )
        panel.set(xlabel="divergence on what is kept, nats", xlim=(0, 0.6))
        panel.set_title(f"Forget: {title}")
    axes[0].set_ylabel("divergence on what is forgotten, nats")
    axes[1].legend()
    return figure


def color_of(method: str) -> str:
    """The colour of a method's family, by a name such as `NPO+RT` or `SimNPO 4`."""
    return _COLORS.get(method.replace("+", " ").split()[0], GREY)


def dashes(method: str) -> str:
    """Solid with a retain term, dashed without, dotted where that is a divergence."""
    return "-" if method.endswith("+RT") else ":" if method.endswith("+KL") else "--"
