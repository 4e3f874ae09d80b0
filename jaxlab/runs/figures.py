"""The house style of every figure: legible in print and to colour-blind readers."""

import functools
import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

# Okabe and Ito (2008).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK = PALETTE
GREY = "0.5"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "image.cmap": "cividis",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "savefig.dpi": 150,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorates a function that draws and returns a `Figure`: it draws in the house style."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def subplots(
    nrows: int = 1,
    ncols: int = 1,
    *,
    width: float | None = None,
    height: float | None = None,
    **kwargs: Any,
) -> tuple[Figure, Any]:
    """A figure without a window and its axes, sized per panel.

    Args:
      nrows, ncols: the grid.
      width, height: of the whole figure in inches; by default 4.2 by 3 a panel.
      **kwargs: passed to `Figure.subplots` (`sharex`, `squeeze`, `width_ratios`, ...).

    Returns:
      `(figure, axes)`: one axes for a single panel, else an array of them.
    """
    size = (width or 4.2 * ncols, height or 3.0 * nrows)
    figure = Figure(figsize=size)
    return figure, figure.subplots(nrows, ncols, **kwargs)


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, the same for the same drawing."""
    with io.BytesIO() as buffer, matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def band(axes, x, samples, label: str | None = None, color: str | None = None, quantile=0.1):
    """Draws the median over seeds as a line and a band between two quantiles.

    Args:
      axes: matplotlib axes.
      x: `[T]` positions.
      samples: `[seeds, T]` one row per seed.
      label, color: of the line; the band takes the same colour.
      quantile: the band spans `quantile` to `1 - quantile`.
    """
    samples = np.asarray(samples)
    (line,) = axes.plot(x, np.median(samples, axis=0), label=label, color=color)
    low, high = np.quantile(samples, [quantile, 1 - quantile], axis=0)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line
