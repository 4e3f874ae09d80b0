"""Figures of the studies, from their stored results."""

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxlab.bandits.width import asymptotic_width
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


@styled
def starved_by_arms(by_arms: dict[int, dict]) -> Figure:
    """Values and certificates over the number of arms, one reward each."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    sizes = list(by_arms)
    lines = (
        ("joint", "TRUST (joint)", BLUE, "o-"),
        ("union", "TRUST (union)", SKY, "s--"),
        ("lcb", "LCB = greedy", VERMILION, "o-"),
        ("reference", "reference (uniform)", GREY, ":"),
    )
    for name, label, color, style in lines:
        for ax, what in ((left, "value"), (right, "certificate")):
            means = [result[what][name].mean() for result in by_arms.values()]
            ax.plot(sizes, means, style, label=label, color=color)
    left.axhline(1, color=BLACK, linewidth=0.8)
    left.annotate(
        "optimum", (sizes[0], 1), (0, 3), textcoords="offset points", fontsize=8, color="0.3"
    )
    left.set(xlabel="arms K", ylabel="true value of the policy", xscale="log", ylim=(-0.1, 1.12))
    left.set_title("What the policy is worth")
    right.set(xlabel="arms K", ylabel="certified lower bound", xscale="log")
    right.set_title("What is certified")
    right.legend()
    for ax in (left, right):
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
    return figure


@styled
def gain_by_radius(main: dict, num_arms: int) -> Figure:
    """Improvement, penalty and their difference over the radius, with the critical one."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    relative = main["radii"] / main["radii"][0]
    improvement, penalty = main["improvement"], main["penalty"]["joint"]
    band(left, relative, improvement, label="improvement in the log", color=BLUE)
    left.plot(relative, penalty, color=VERMILION, label="penalty: what noise can fake")
    left.set(xlabel="radius / largest radius", ylabel="reward", xscale="log")
    left.set_title(f"One reward for each of {num_arms:,} arms")
    left.legend()
    gain = improvement - penalty
    band(right, relative, gain, label="improvement minus penalty", color=GREEN)
    critical = np.median(main["relative_radius"])
    right.axvline(critical, color=BLACK, linestyle=":", linewidth=1)
    right.annotate(
        f"critical radius\n{critical:.3g}",
        (critical, gain.min()),
        (5, 8),
        textcoords="offset points",
        fontsize=8,
    )
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set(xlabel="radius / largest radius", xscale="log")
    right.set_title("Certified gain over the reference")
    return figure


@styled
def certificate_by_count(result: dict) -> Figure:
    """Certificates and values over the number of rewards per arm."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    counts = result["counts"]
    for name, label, color in (("joint", "TRUST (joint)", BLUE), ("lcb", "LCB", VERMILION)):
        band(left, counts, result["certificate"][name], label=label, color=color)
        band(right, counts, result["value"][name], label=label, color=color)
    level = result["certificate"]["joint"][:, 0].mean()
    left.axhline(level, color=BLUE, linestyle=":", linewidth=1, label="TRUST at n = 1")
    left.set(xlabel="rewards per arm n", ylabel="certified lower bound")
    left.set_title("What is certified")
    left.legend(loc="lower right")
    right.set(xlabel="rewards per arm n", ylabel="true value")
    right.set_title("What the policy is worth")
    for ax in (left, right):
        ax.set_xticks([1, *range(5, int(counts[-1]) + 1, 5)])
    return figure


@styled
def minimax(result: dict, cases: tuple[str, ...]) -> Figure:
    """Normalised worst cases, a group per problem and a bar per method."""
    figure, axes = subplots(width=7.6, height=3.4)
    methods = (
        ("union", "TRUST (union)", SKY),
        ("joint", "TRUST (joint)", BLUE),
        ("lcb", "LCB", VERMILION),
        ("greedy", "greedy", GREY),
    )
    width = 0.2
    for number, (name, label, color) in enumerate(methods):
        rates = np.array([result[case][name] for case in cases])  # [cases, sizes]
        where = np.arange(len(rates)) + (number - 1.5) * width
        axes.bar(where, rates.mean(1), width * 0.92, color=color, label=label)
        axes.plot(
            where[:, None] + width * np.array([-0.25, 0, 0.25]), rates, ".", color=BLACK, ms=3
        )
    axes.set_xticks(np.arange(len(cases)), [case.replace(", ", "\n") for case in cases])
    axes.set(ylabel=r"worst suboptimality / $\sqrt{C^*/N}$")
    axes.set_title("Minimax problems (dots: N = 100, 400, 1600)")
    axes.grid(axis="x", visible=False)
    axes.legend()
    return figure


@styled
def many_bad_arms(result: dict, config) -> Figure:
    """The limitation: value among badly sampled arms, and the normalised worst case."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.2)
    lines = (
        ("joint", "TRUST (joint)", BLUE),
        ("lcb", "LCB", VERMILION),
        ("best", "better certified", GREEN),
    )
    width = 0.25
    for number, (name, label, color) in enumerate(lines):
        means = result["value"][name].mean(1)
        where = np.arange(len(means)) + (number - 1) * width
        left.bar(where, means, 0.9 * width, color=color, label=label)
        right.plot((100, 400, 1600), result["worst"][name], "o-", color=color, label=label)
    left.set_xticks(range(len(config.junk_counts)), [f"n = {n}" for n in config.junk_counts])
    left.set(ylabel="true value", title="Best arm seen n times, n others once")
    left.grid(axis="x", visible=False)
    right.set(xlabel="rewards in the log N", xscale="log", ylim=(0, None))
    right.set_ylabel(r"worst suboptimality / $\sqrt{C^*/N}$")
    right.set_title("TRUST loses the rate there")
    right.set_xticks([100, 400, 1600], ["100", "400", "1600"])
    right.minorticks_off()
    right.legend()
    return figure


@styled
def violations(result: dict, config) -> Figure:
    """How often penalties and certificates fail, against what is allowed."""
    figure, axes = subplots(width=5.6, height=3.2)
    bars = [
        ("penalty\nunion", result["event"]["union"], config.delta, SKY),
        ("penalty\njoint", result["event"]["joint"], config.delta, BLUE),
        ("certificate\nunion", result["violated"]["union"], config.delta + config.delta_ref, SKY),
        ("certificate\njoint", result["violated"]["joint"], config.delta + config.delta_ref, BLUE),
    ]
    for number, (_, rates, allowed, color) in enumerate(bars):
        error = 2 * rates.std() / np.sqrt(rates.size)
        axes.bar(number, rates.mean(), 0.6, yerr=error, color=color, capsize=3)
        axes.hlines(allowed, number - 0.4, number + 0.4, color=VERMILION)
    axes.annotate(
        "allowed",
        (3, config.delta + config.delta_ref),
        (0, 3),
        textcoords="offset points",
        ha="center",
        color=VERMILION,
        fontsize=8,
    )
    axes.set_xticks(range(len(bars)), [name for name, *_ in bars])
    axes.set(
        ylabel="frequency of failure", title="Coverage on fresh logs (bars: 2 standard errors)"
    )
    axes.margins(y=0.12)
    axes.grid(axis="x", visible=False)
    return figure


@styled
def width(result: dict, num_arms: int) -> Figure:
    """Mean suprema against the formula for many equal arms."""
    figure, axes = subplots(width=4.8, height=3.2)
    grid = np.geomspace(0.01, 1000, 200)
    axes.plot(grid, jax.jit(asymptotic_width)(grid), color=BLACK, label="formula, K to infinity")
    axes.plot(grid, np.sqrt(grid), ":", color=GREY, label="no weight at zero")
    axes.errorbar(
        result["ratio"],
        result["mean"],
        2 * result["error"],
        fmt="o",
        color=BLUE,
        label=f"Monte Carlo, K = {num_arms:,}",
    )
    axes.set(xlabel=r"$t = K \varepsilon^2 / s^2$", ylabel="mean supremum / s", xscale="log")
    axes.set(ylim=(0, 4), title="Width of a trust region")
    axes.legend(loc="upper left")
    return figure


@styled
def pendulum(result: dict, learned: dict, counts: tuple[int, ...]) -> Figure:
    """Values over logs of one, two, five and ten episodes of each controller."""
    figure, axes = subplots(width=7.6, height=3.6)
    for number, (name, label, color) in enumerate(
        (("joint", "TRUST", BLUE), ("lcb", "LCB: best-looking", VERMILION))
    ):
        where = np.arange(len(counts)) + 0.32 * (number - 0.5)
        _boxes(axes, result["value"][name], where, color, label)
    axes.axhline(float(result["uniform"]), color=GREY, linestyle=":", linewidth=1)
    axes.annotate(
        "uniform",
        (1, float(result["uniform"])),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.3",
    )
    for (name, values), marker, color in zip(
        learned.items(),
        ("D", "^", "v", "s", "P"),
        (ORANGE, PURPLE, GREEN, SKY, BLACK),
        strict=False,
    ):
        axes.plot([0, 2], values.mean(0), marker, color=color, ms=5, label=name)
    axes.set_xticks(range(len(counts)), [f"n = {n}" for n in counts])
    axes.set(ylabel="mean return", title="Pendulum swing-up: n logged episodes per controller")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside right center")
    return figure


@styled
def gymnasium(values: dict[str, dict]) -> Figure:
    """Values over logs of Gymnasium's environments, a panel each."""
    figure, axes = subplots(1, len(values), width=8.6, height=3.2)
    names = (
        ("joint", "TRUST", BLUE),
        ("lcb", "LCB", VERMILION),
        ("cloning", "cloning the\nbest-looking", ORANGE),
    )
    for ax, (env_id, result) in zip(axes, values.items(), strict=True):
        for number, (name, _, color) in enumerate(names):
            _boxes(ax, result["value"][name][:, None], [number], color)
        uniform, best = result["truth"].mean(), result["truth"].max()
        for level, label in ((uniform, "uniform"), (best, "best policy")):
            ax.axhline(level, color=GREY, linestyle=":", linewidth=1)
            ax.annotate(
                label,
                (1, level),
                (0, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color="0.3",
            )
        ax.set_xticks(range(len(names)), [label for _, label, _ in names])
        ax.set(title=env_id, ylabel="mean return")
        ax.margins(y=0.1)
        ax.grid(axis="x", visible=False)
    return figure


@styled
def open_bandit(result: dict) -> Figure:
    """Click rates of the items, and the policies with a valid and with the plug-in noise level."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.2)
    seen = result["count"] > 0
    rate = np.where(seen, result["clicks"] / np.maximum(result["count"], 1), 0)
    order = np.argsort(-rate)
    left.bar(range(rate.size), 100 * rate[order], 1.0, color=BLUE)
    overall = 100 * result["clicks"].sum() / result["count"].sum()
    left.axhline(overall, color=VERMILION, linestyle=":", linewidth=1)
    left.annotate(
        "all items",
        (rate.size, overall),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color=VERMILION,
        fontsize=8,
    )
    left.set(xlabel="items, by click rate", ylabel="clicks per 100 impressions")
    left.set_title("A few rare clicks each")
    left.grid(axis="x", visible=False)
    for name, label, color in (
        ("plug_in", f"plug-in, {float(result['plug_in_sigma']):.3f}: void", VERMILION),
        ("proxy", f"sub-Gaussian proxy, {float(result['proxy_sigma']):.3f}", BLUE),
    ):
        policy = result[name]["joint"]["policy"]
        right.plot(np.arange(policy.size), policy[order], drawstyle="steps-mid", label=label,
                   color=color)  # fmt: skip
    right.set(xlabel="items, by click rate", ylabel="probability in the policy")
    right.set_title("TRUST by noise deviation")
    right.legend()
    return figure


@styled
def own_log(result: dict, mean: np.ndarray) -> Figure:
    """Improvement and penalty over the radius, and the policy over the arms' means."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.2)
    decided = result["trust"]
    radii = np.maximum(decided["radii"], np.finfo(np.float32).tiny)
    left.plot(radii, decided["improvement"], color=BLUE, label="improvement in the log")
    left.plot(radii, decided["penalty"], color=VERMILION, label="penalty: what noise can fake")
    if decided["index"] >= 0:
        left.axvline(decided["radius"], color=BLACK, linestyle=":", linewidth=1)
    left.set(
        xlabel="radius", ylabel="reward", xscale="log", title="Certified gain over the reference"
    )
    left.legend()
    right.plot(mean, decided["reference"], ".", color=GREY, label="reference")
    source = ("TRUST", "LCB")[int(result["best"]["source"])]
    right.plot(mean, result["best"]["policy"], ".", color=BLUE, label=f"chosen: {source}")
    right.set(
        xlabel="mean reward in the log", ylabel="probability", title="The policy, a dot an arm"
    )
    right.legend()
    return figure


def _boxes(axes, values: np.ndarray, where, color: str, label: str | None = None) -> None:
    """A box per column of `[S, columns]`, whiskers from the least to the largest."""
    parts = axes.boxplot(
        values, positions=where, widths=0.28, whis=(0, 100), patch_artist=True, manage_ticks=False
    )
    for box in parts["boxes"]:
        box.set(facecolor=color, alpha=0.75, linewidth=0.8)
    for line in parts["medians"]:
        line.set(color=BLACK)
    if label:
        parts["boxes"][0].set_label(label)
