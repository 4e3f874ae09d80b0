"""The figures of the large-stepsize experiment, drawn from what its parts measured."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from jaxlab.optim.bounds import log_risk_bound
from jaxlab.optim.convergence import IMBALANCE_ETAS
from jaxlab.optim.lower_bounds import OPTIMAL
from jaxlab.optim.problems import eta_label
from jaxlab.runs.figures import BLUE, PALETTE, VERMILION, styled, subplots

_VARIANT_LABELS = {
    "exponential": "exponential",
    "logistic_risk": "logistic, risk",
    "logistic_potential": "logistic, potential",
}
_DASHED = {"linestyle": (0, (4, 2)), "linewidth": 1.0}


def _shades(count: int) -> np.ndarray:
    """Ordered colours from light to dark for an ordered quantity, legible without hue."""
    return colormaps["viridis_r"](np.linspace(0.12, 1.0, count))


def _log_risk_axis(axes, label="ln risk") -> None:
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylabel(label)


@styled
def risk(measured: Mapping, etas: Sequence[float], margin: float) -> Figure:
    """ln L of the last and of the average iterate over steps, for every eta, with the bound."""
    figure, panels = subplots(1, 2, width=9, height=3.6, sharey=True)
    path = measured["exponential"]["path"]
    steps = np.arange(path["log_risk"].shape[-1])
    for axes, quantity, title in zip(
        panels,
        ("log_risk", "log_risk_avg"),
        ("last iterate: it rises and falls", "average of the iterates, and its bound (dashed)"),
        strict=True,
    ):
        for i, (eta, color) in enumerate(zip(etas, _shades(len(etas)), strict=True)):
            axes.plot(steps, path[quantity][i], color=color, linewidth=1.2, label=eta_label(eta))
            if quantity == "log_risk_avg":
                axes.plot(steps, log_risk_bound(eta, margin, steps), color=color, **_DASHED)
        axes.axvline(1 / margin**2, color="0.4", linewidth=0.9, linestyle=":")
        axes.annotate(
            "1/γ²",
            (1 / margin**2, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            va="top",
            color="0.3",
        )
        axes.set_xlabel("step")
        axes.set_title(title)
    _log_risk_axis(panels[0])
    panels[1].legend(title="eta", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def stepsizes(measured: Mapping, etas: Sequence[float]) -> Figure:
    """ln of the stepsize relative to the risk's gradient, and the mass of the update weights."""
    shown = sorted({0, len(etas) // 2, len(etas) - 1})
    figure, panels = subplots(1, 3, width=11, height=3.2)
    for axes, variant, quantity, label in (
        (panels[0], "exponential", "log_stepsize", "ln stepsize"),
        (panels[1], "logistic_risk", "log_stepsize", "ln stepsize"),
        (panels[2], "logistic_risk", "mass", "mass of the update"),
    ):
        path = measured[variant]["path"][quantity]
        for i, color in zip(shown, PALETTE, strict=False):
            axes.plot(path[i], color=color, linewidth=1.1, label=eta_label(etas[i]))
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.set_title(_VARIANT_LABELS[variant])
        if quantity == "log_stepsize":
            axes.set_yscale("symlog", linthresh=1)
    panels[2].legend(title="eta", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def margins(measured: Mapping, etas: Sequence[float], margin: float) -> Figure:
    """The normalized margin of the average iterate over the maximum margin."""
    figure, panels = subplots(1, 2, width=9, height=3.2, sharey=True)
    for axes, variant in zip(panels, ("exponential", "logistic_potential"), strict=True):
        path = measured[variant]["path"]["min_margin_avg"]
        for row, eta, color in zip(path, etas, _shades(len(etas)), strict=True):
            axes.plot(row / margin, color=color, linewidth=1.2, label=eta_label(eta))
        axes.axhline(1, color="0.4", linewidth=0.9, linestyle=":")
        axes.set_xlabel("step")
        axes.set_title(_VARIANT_LABELS[variant])
        axes.set_ylim(-1.0, 1.1)
    panels[0].set_ylabel("margin of the average / γ")
    panels[1].legend(title="eta", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def burn_in(
    margin: np.ndarray, measured: Mapping, etas: Sequence[float], perceptrons: Mapping
) -> Figure:
    """Steps to the first separator against 1/gamma^2, a point per data set."""
    figure, axes = subplots(width=5.2, height=4)
    last = int(np.argmax(etas))
    inverse = 1 / margin**2
    first = {name: result["first_separated"][:, last] for name, result in measured.items()}
    points = {
        f"GD exponential, eta {eta_label(etas[last])}": first["exponential"],
        "Perceptron": perceptrons["online"],
        "batch Perceptron": perceptrons["batch"],
        f"GD logistic risk, eta {eta_label(etas[last])}": first["logistic_risk"],
    }
    for (label, steps), color, marker in zip(points.items(), PALETTE, "osD^", strict=False):
        found = steps > 0
        axes.scatter(
            inverse[found],
            steps[found],
            s=16,
            color=color,
            marker=marker,
            alpha=0.7,
            linewidths=0,
            label=label,
        )
    line = np.array([inverse.min() * 0.8, inverse.max() * 1.25])
    axes.plot(line, line, color="0.3", label="1/γ²", **_DASHED)
    axes.set(xscale="log", yscale="log", xlabel="1/γ²", ylabel="steps to the first separator")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.16), ncols=2)
    return figure


@styled
def imbalance(measured: Mapping) -> Figure:
    """One hard sample among 1000: where the abstract's sentence fails for the logistic loss."""
    figure, panels = subplots(1, 2, width=9, height=3.2)
    margin = float(measured["margin"])
    eta_at = IMBALANCE_ETAS.index(1e4)
    styles = ({"linewidth": 4, "alpha": 0.45}, {}, {"linewidth": 1.2})  # two curves coincide
    for (variant, label), color, style in zip(
        _VARIANT_LABELS.items(), PALETTE, styles, strict=False
    ):
        result = measured[variant]
        panels[0].plot(result["path"]["log_risk"][eta_at], color=color, label=label, **style)
        first = result["first_separated"][0]
        panels[1].plot(IMBALANCE_ETAS, first, "o-", color=color, label=label, **style)
    panels[0].axvline(1 / margin**2, color="0.4", linewidth=0.9, linestyle=":")
    panels[0].set(xlabel="step (1/γ² dotted)", title="eta 10⁴")
    _log_risk_axis(panels[0])
    panels[1].axhline(1 / margin**2, color="0.4", linewidth=0.9, linestyle=":")
    panels[1].set(
        xscale="log",
        yscale="log",
        xlabel="eta",
        ylabel="steps to the first separator",
        title="999 samples against one (1/γ² dotted)",
    )
    panels[1].legend(loc="upper left")
    return figure


@styled
def lower_bounds(batch: Mapping, etas: Sequence[float]) -> Figure:
    """First separators on the hard chains against the number of steps nobody can beat."""
    figure, axes = subplots(width=5.2, height=4.4)
    min_steps = batch["min_steps"]
    rng = np.random.default_rng(0)
    optimal = {f"{loss} {rule}" for loss, rule in OPTIMAL}
    for name, first in batch["first_separated"].items():
        best = name in optimal
        for i, eta in enumerate(etas):
            large = best and eta >= 1e4
            found = first[:, i] >= 0
            axes.scatter(
                (min_steps * np.exp(rng.uniform(-0.05, 0.05, len(min_steps))))[found],
                first[found, i],
                s=26 if large else 12,
                marker="D" if large else "o",
                color=BLUE if large else VERMILION,
                alpha=0.8 if large else 0.4,
                linewidths=0,
                zorder=3 if large else 2,
            )
    axes.scatter([], [], marker="D", color=BLUE, label="exponential; logistic potential, eta ≥ 10⁴")
    axes.scatter([], [], color=VERMILION, label="other losses, rules and etas")
    line = np.array([min_steps.min() * 0.85, min_steps.max() * 1.18])
    axes.plot(line, line, color="0.2", label="lower bound d", **_DASHED)
    axes.set(xscale="log", yscale="log", xlabel="d", ylabel="steps to the first separator")
    ticks = sorted({int(d) for d in min_steps})
    axes.set_xticks(ticks, [str(d) for d in ticks])
    heights = [d for d in (2**i * ticks[0] for i in range(10)) if d <= 2 * ticks[-1]]
    axes.set_yticks(heights, [str(d) for d in heights])
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14))
    return figure


@styled
def losses(measured: Mapping, names: Sequence[str], rules: Sequence[str]) -> Figure:
    """ln L of the average at twice the burn-in for each loss, a point per data set."""
    figure, axes = subplots(width=6.4, height=3.4)
    for offset, rule, color in zip((-0.15, 0.15), rules, PALETTE, strict=False):
        for i, name in enumerate(names):
            values = measured[name][rule]
            axes.scatter(
                np.full(len(values), i + offset),
                values,
                s=12,
                color=color,
                alpha=0.6,
                linewidths=0,
                label=f"rule {rule}" if i == 0 else None,
            )
    targets = [float(measured[name]["target"]) for name in names]
    axes.scatter(
        range(len(targets)), targets, marker="_", s=500, color="0.2", label="ln l(eta/2)", zorder=3
    )
    axes.set_xticks(range(len(targets)), [name.replace("_", "\n") for name in names])
    _log_risk_axis(axes, "ln risk of the average at t = 2/γ²")
    axes.legend(loc="upper left")
    return figure


@styled
def two_layer(measured: Mapping, slopes: Sequence[float], etas: Sequence[float]) -> Figure:
    """The best ln L so far of two-layer networks, with the bound dashed, for the largest eta."""
    shown = ("leaky_relu", "leaky_softplus", "logistic")
    titles = (
        "exponential, leaky ReLU",
        "exponential, leaky softplus",
        "logistic (risk), leaky ReLU",
    )
    figure, panels = subplots(1, 3, width=11, height=3.2, sharey=True)
    for axes, name, title in zip(panels, shown, titles, strict=True):
        for i, (slope, color) in enumerate(zip(slopes, PALETTE, strict=False)):
            best, bound = measured[name]["best"][i, -1], measured[name]["bound"][i, -1]
            axes.plot(best, color=color, label=f"{slope:g}")
            axes.plot(np.arange(1, len(bound) + 1), bound, color=color, **_DASHED)
        axes.set(xlabel="step", title=title)
    _log_risk_axis(panels[0], f"least ln risk so far, eta {eta_label(etas[-1])}")
    panels[-1].legend(title="slope", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def peers(measured: Mapping, eta: float) -> Figure:
    """ln L over gradient evaluations on each real data set, ours and the alternatives."""
    curves = {
        ("exponential", eta_label(eta)): f"exponential, eta {eta_label(eta)}",
        ("potential", eta_label(eta)): f"logistic potential, eta {eta_label(eta)}",
        ("lbfgs_log", ""): "L-BFGS on ln L (exponential)",
        ("lbfgs", ""): "L-BFGS on L (logistic)",
        ("polyak", ""): "optax.polyak_sgd",
        ("risk", "1"): "logistic risk, eta 1",
        ("constant", "1000"): "constant, eta 1000",
    }
    columns = min(4, len(measured))
    rows = -(-len(measured) // columns)
    figure, grid = subplots(
        rows, columns, width=max(3 * columns, 6), height=2.5 * rows + 0.8, squeeze=False
    )
    for axes in grid.ravel()[len(measured) :]:
        axes.remove()
    for axes, (name, result) in zip(grid.ravel(), measured.items(), strict=False):
        for ((method, at), label), color in zip(curves.items(), PALETTE, strict=True):
            log_risk = result["trajectories"][method][at]["log_risk"]
            finite = np.where(np.isfinite(log_risk), log_risk, np.nan)
            axes.plot(
                np.arange(1, len(finite) + 1), finite, color=color, linewidth=1.2, label=label
            )
        axes.axvline(1 / result["margin"] ** 2, color="0.4", linewidth=0.9, linestyle=":")
        axes.set(xscale="log", title=name)
        axes.set_ylim(-2000, 50)
        axes.set_yscale("symlog", linthresh=1)
    for axes in grid[-1]:
        axes.set_xlabel("evaluations (1/γ² dotted)")
    for axes in grid[:, 0]:
        axes.set_ylabel("ln risk")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if columns > 2 else 2)
    return figure
