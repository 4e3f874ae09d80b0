"""Figures of the studies, from their stored results."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from jaxlab.rl.rates import sac_flops
from jaxlab.runs.figures import BLUE, GREEN, PURPLE, VERMILION, styled, subplots


@styled
def transmission(blocks, rates: dict) -> Figure:
    """Rows per second through the ring and through a Queue, by block size."""
    figure, axes = subplots(width=4.6, height=3.2)
    for name, label, color in (
        ("ring", "ring in shared memory", BLUE),
        ("queue", "multiprocessing.Queue", VERMILION),
    ):
        axes.plot(blocks, rates[name], "o-", color=color, label=label)
    axes.set(xscale="log", yscale="log", xlabel="rows in a block", ylabel="rows per second")
    axes.set_xticks(blocks, [str(x) for x in blocks])
    axes.minorticks_off()
    axes.set_title("Handing experience to the learner")
    axes.legend()
    return figure


@styled
def update_rates(result: dict, config) -> Figure:
    """Rows learned from per second by batch size, with the chosen one and the ceiling."""
    figure, axes = subplots(width=4.6, height=3.2)
    axes.plot(result["sizes"], result["grid"], "o-", color=BLUE, label="per second")
    axes.plot(result["sizes"], result["cpu_grid"], "s--", color=GREEN, label="per processor second")
    ceiling = float(result["matmul_flops"]) / sum(sac_flops(config, 1))
    axes.axhline(ceiling, color="0.4", linewidth=1)
    axes.annotate(
        "what the products alone allow",
        (result["sizes"][0], ceiling),
        (0, 4),
        textcoords="offset points",
        fontsize=8,
        color="0.3",
    )
    axes.axvline(int(result["chosen"]), color=VERMILION, linestyle=":", label="chosen")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="rows learned from per second")
    axes.set_xticks(result["sizes"], [str(x) for x in result["sizes"]])
    axes.minorticks_off()
    # Often the rates lie between two powers of ten.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(f"SAC, networks of {' x '.join(map(str, config.hidden))}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def pendulum(solved: list[dict], goal: float) -> Figure:
    """Mean return over updates, a line for each seed."""
    figure, axes = subplots(width=4.6, height=3.2)
    for result in solved:
        axes.plot(result["curve_updates"], result["curve_return"], color=BLUE, alpha=0.7)
    axes.axhline(goal, color="0.4", linewidth=1, linestyle=":")
    axes.annotate(
        "solved",
        (0, goal),
        (2, 3),
        textcoords="offset points",
        fontsize=8,
        color="0.3",
    )
    axes.set(xlabel="updates", ylabel="mean return of 32 episodes")
    axes.set_title("Pendulum-v1 on the device")
    return figure


@styled
def timeline(result: dict, kinds) -> Figure:
    """What was busy when, one band for each kind of work."""
    figure, axes = subplots(width=8.0, height=2.2)
    for row, (kind, color) in enumerate(zip(kinds, (GREEN, BLUE, VERMILION, PURPLE), strict=False)):
        intervals = np.asarray(result["busy"][kind])
        spans = [(start, end - start) for start, end in intervals]
        axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=color, linewidth=0)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set(xlabel="seconds", ylim=(-0.6, len(kinds) - 0.4))
    axes.set_title("What is busy beside what")
    return figure
