"""Figures of the studies, from their stored results."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from jaxlab.rl.rates import sac_flops
from jaxlab.runs.figures import PALETTE, styled, subplots

BLUE, VERMILION, GREEN, ORANGE = PALETTE[:4]


@styled
def transmission(blocks, rates: dict) -> Figure:
    """Rows per second through the ring and through a Queue, by block size."""
    figure, ax = subplots(width=4.6, height=3.2)
    for name, label, color in (
        ("ring", "ring in shared memory", BLUE),
        ("queue", "multiprocessing.Queue", VERMILION),
    ):
        ax.plot(blocks, rates[name], "o-", color=color, label=label)
    ax.set(xscale="log", yscale="log", xlabel="rows in a block", ylabel="rows per second")
    ax.set_xticks(blocks, [str(x) for x in blocks])
    ax.minorticks_off()
    ax.set_title("Handing experience to the learner")
    ax.legend()
    return figure


@styled
def update_rates(result: dict, config) -> Figure:
    """Rows learned from per second by batch size, with the chosen one and the ceiling."""
    figure, ax = subplots(width=4.6, height=3.2)
    ax.plot(result["sizes"], result["grid"], "o-", color=BLUE, label="per second")
    ax.plot(result["sizes"], result["cpu_grid"], "s--", color=GREEN, label="per processor second")
    ceiling = float(result["matmul_flops"]) / sum(sac_flops(config, 1))
    ax.axhline(ceiling, color="0.4", linewidth=1)
    ax.annotate(
        "what the products alone allow",
        (result["sizes"][0], ceiling),
        (0, 4),
        textcoords="offset points",
        fontsize=8,
        color="0.3",
    )
    ax.axvline(int(result["chosen"]), color=VERMILION, linestyle=":", label="chosen")
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="rows learned from per second")
    ax.set_xticks(result["sizes"], [str(x) for x in result["sizes"]])
    ax.minorticks_off()
    # Often the rates lie between two powers of ten.
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(f"SAC, networks of {' x '.join(map(str, config.hidden))}")
    ax.legend()
    return figure


@styled
def curves(solved: list[dict], goal: float) -> Figure:
    """Mean return over updates, a line for each seed."""
    figure, ax = subplots(width=4.6, height=3.2)
    for result in solved:
        ax.plot(result["curve_updates"], result["curve_return"], color=BLUE, alpha=0.7)
    ax.axhline(goal, color="0.4", linewidth=1, linestyle=":")
    ax.annotate(
        "solved",
        (0, goal),
        (2, 3),
        textcoords="offset points",
        fontsize=8,
        color="0.3",
    )
    ax.set(xlabel="updates", ylabel="mean return of 32 episodes")
    ax.set_title("Pendulum-v1 on the device")
    return figure


@styled
def timeline(result: dict, kinds) -> Figure:
    """What was busy when, one band for each kind of work."""
    figure, ax = subplots(width=8.0, height=2.2)
    for row, (kind, color) in enumerate(zip(kinds, (GREEN, BLUE, VERMILION), strict=True)):
        intervals = np.asarray(result["busy"][kind])
        spans = [(start, end - start) for start, end in intervals]
        ax.broken_barh(spans, (row - 0.35, 0.7), facecolors=color, linewidth=0)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set(xlabel="seconds", ylim=(-0.6, len(kinds) - 0.4))
    ax.set_title("What is busy beside what")
    return figure
