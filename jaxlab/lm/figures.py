"""The room's figures; each function draws numbers and returns a matplotlib Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxlab.runs.figures import BLACK, BLUE, ORANGE, VERMILION, styled, subplots


@styled
def training(rows: Sequence[dict], floor: float | None, unigram: float) -> Figure:
    """Loss against tokens seen, between what frequencies alone give and the text's entropy.

    The training loss is a mean since the point before, over rows that begin amid a document; the
    held-out stories are whole, which makes them easier.

    Args:
      rows: logged metrics, each with tokens, loss, valid_loss.
      floor: the text's entropy in nats per token, None where it is not known.
      unigram: cross-entropy of the token frequencies, nats per token.
    """
    figure, axes = subplots(width=5.4, height=3.4)
    tokens = [row["tokens"] for row in rows]
    axes.plot(tokens, [row["loss"] for row in rows], label="training", color=BLUE)
    axes.plot(tokens, [row["valid_loss"] for row in rows], "o-", label="held out", color=VERMILION)
    axes.axhline(unigram, color=ORANGE, linestyle=":", label="token frequencies")
    if floor is not None:
        axes.axhline(floor, color=BLACK, linestyle="--", label="entropy of the text")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="tokens seen", ylabel="loss (nats per token)", ylim=(0, None))
    axes.set_title("Training from scratch")
    axes.legend()
    return figure


@styled
def copying(steps: np.ndarray, losses: np.ndarray, vocab_size: int) -> Figure:
    """Loss on the copied words against steps, [N] each, with the loss of guessing."""
    figure, axes = subplots(width=5.0, height=3.2)
    axes.semilogy(steps, losses, color=BLUE, label="two layers, d = 64")
    axes.axhline(np.log(vocab_size - 1), color=ORANGE, linestyle=":", label="guessing")
    axes.axhline(0.3, color=BLACK, linestyle="--", label="criterion")
    axes.set(xlabel="step", ylabel="loss on the copy (nats per token)")
    axes.set_title("Copying sixteen random words")
    axes.legend()
    return figure
