"""Figures of the studies, from their stored results."""

import numpy as np
from matplotlib.figure import Figure

from jaxlab.runs.figures import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, band, styled, subplots


@styled
def reward_by_cost(curve: dict, base: int) -> Figure:
    """Mean reward by tokens, and the paper's measures: improvement score by relative compute."""
    figure, (left, right) = subplots(1, 2, width=9.0, height=3.5)
    per_row = curve["tokens"][0] / curve["n"][0]
    count = len(curve["improvement"])
    panels = (
        (left, curve["n"], 1.0, curve["reward"], curve["search_reward"]),
        (right, curve["n"][-count:], base * per_row, curve["improvement"],
         curve["search_improvement"]),
    )  # fmt: skip
    for ax, sizes, unit, plain, search in panels:
        cost = sizes * per_row / unit
        ax.plot(cost, plain, "o-", color=BLUE, label="Best-of-N (numbers: N)")
        for n, x, y in zip(sizes, cost, plain, strict=True):
            ax.annotate(
                f"{n}", (x, y), (3, -9), textcoords="offset points", fontsize=7, color="0.3"
            )
        ax.axhline(plain[-1], color=GREY, linestyle=":", linewidth=1)
        ax.set(xscale="log")
        ax.margins(y=0.12)
        spent = curve["search_tokens"] / unit
        for alpha, marker, x, y in zip(curve["alpha"], "DsP^v", spent, search, strict=False):
            label = rf"speculative rejection, $\alpha$ = {alpha:g}"
            ax.plot(x, y, marker, color=VERMILION, label=label)
    left.set(xlabel="tokens computed per prompt", ylabel="mean gold reward", title="Reward by cost")
    right.set(xlabel=f"tokens / those of Best-of-{base}", ylabel="improvement score")
    right.set_title(f"Improvement score (Best-of-{base} has 100)")
    low, high = np.log2(right.get_xlim()).astype(int)
    ticks = 2.0 ** np.arange(low, high + 1)
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
    left.legend(loc="lower right")
    return figure


@styled
def pruning(scores: np.ndarray, last: np.ndarray) -> Figure:
    """Partial scores of all rows up to the step at which each was rejected."""
    figure, axes = subplots(width=6.0, height=3.4)
    steps = np.arange(1, scores.shape[1] + 1)
    for path, end in zip(scores, last, strict=True):
        axes.plot(steps[:end], path[:end], color=BLUE, alpha=0.25, linewidth=0.7)
        if end < steps[-1]:
            axes.plot(end, path[end - 1], ".", color=BLACK, markersize=1.5)
    alive = np.flatnonzero(last == steps[-1])
    best = alive[np.argmax(scores[alive, -1])]
    axes.plot(steps, scores[best], color=VERMILION, label="the response returned")
    axes.set(xscale="log", xlabel="tokens", ylabel="score of the response so far")
    axes.set_title("What is not generated: lines end where rows are rejected")
    axes.legend(loc="lower right")
    return figure


@styled
def memory(search: np.ndarray, plain: np.ndarray) -> Figure:
    """Share of the cache in use over decode steps, for both methods."""
    figure, axes = subplots(width=6.0, height=3.0)
    for used, color, label in (
        (search, VERMILION, "speculative rejection"),
        (plain, BLUE, "Best-of-N"),
    ):
        axes.plot(
            np.arange(1, used.size + 1), used, color=color, label=f"{label}, mean {used.mean():.2f}"
        )
    axes.set(xlabel="decode step", ylabel="cache slots in use / capacity", ylim=(0, 1.05))
    axes.set_title("Memory over a run")
    axes.legend(loc="lower right")
    return figure


@styled
def correlation(steps: np.ndarray, result: dict, final: np.ndarray) -> Figure:
    """Correlation of partial and final scores by length, and one prompt's scatter."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.3)
    band(left, steps, result["pearson"], label="Pearson's r", color=BLUE)
    band(left, steps, result["kendall"], label="Kendall's tau", color=VERMILION)
    left.set(xscale="log", xlabel="tokens of the part", ylabel="correlation with the final score")
    left.set_xticks(steps, [str(t) for t in steps])
    left.minorticks_off()
    left.set(ylim=(0, 1.02), title="Median over prompts, 10 to 90%")
    left.legend(loc="lower right")
    partial = result["partial"]
    right.plot(partial, final, ".", color=BLUE, alpha=0.4, markersize=3)
    cut = np.median(partial)
    right.axvline(cut, color=VERMILION, linewidth=1)
    best = np.argmax(final)
    right.plot(partial[best], final[best], "o", color=GREEN, markersize=6, label="the best")
    right.annotate(
        "rejected", (cut, final.min()), (-4, 0), textcoords="offset points", ha="right",
        fontsize=8, color=VERMILION,
    )  # fmt: skip
    right.set(xlabel=f"score after {steps[1]} tokens", ylabel="final score")
    right.set_title("One prompt (line: the cut of half)")
    right.legend(loc="upper left")
    return figure


@styled
def alpha_sweep(alphas: np.ndarray, result: dict, best: np.ndarray) -> Figure:
    """Tokens and score by rejected fraction; `best` [p, k] are Best-of-n_init's scores."""
    figure, (left, right) = subplots(1, 2, width=8.6, height=3.0)
    left.plot(alphas, result["computed"], "o-", color=VERMILION, label="computed")
    left.plot(alphas, result["generated"], "s--", color=ORANGE, label="generated")
    left.set(xlabel=r"rejected fraction $\alpha$", ylabel="tokens per prompt", yscale="log")
    left.set_title("Cost")
    left.legend()
    gaps = (result["score"] - best).reshape(len(alphas), -1)
    right.errorbar(
        alphas,
        gaps.mean(axis=1),
        2 * gaps.std(axis=1) / np.sqrt(gaps.shape[1]),
        fmt="o-",
        color=BLUE,
    )
    right.axhline(0, color=GREY, linestyle=":", linewidth=1)
    right.set(xlabel=r"rejected fraction $\alpha$", ylabel="gold reward, less Best-of-n$_{init}$'s")
    right.set_title("Reward (bars: 2 standard errors, paired)")
    return figure


@styled
def tuning(curve: dict, tuned: dict[str, dict]) -> Figure:
    """Gold reward by divergence from the base model."""
    figure, axes = subplots(width=5.6, height=3.4)
    axes.plot(curve["kl"], curve["reward"], "o-", color=BLUE, label="Best-of-N (bound of the KL)")
    for (name, path), color in zip(tuned.items(), (GREEN, VERMILION), strict=True):
        axes.plot(path["kl"], path["reward"], ".-", color=color, label=name)
    axes.set(xlabel="KL divergence from the base model (nats)", ylabel="mean gold reward")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_title("Reward for divergence")
    axes.legend()
    return figure


@styled
def judge(results: dict[str, dict], n: int) -> Figure:
    """Gold scores of the two methods' choices, a panel per reward model."""
    figure, axes = subplots(1, len(results), width=8.6, height=3.4, sharex=True, sharey=True)
    for ax, (kind, result) in zip(axes, results.items(), strict=True):
        ax.plot(result["plain"], result["search"], "o", color=BLUE, alpha=0.7)
        ends = [min(x.min() for x in (result["plain"], result["search"])),
                max(x.max() for x in (result["plain"], result["search"]))]  # fmt: skip
        ax.plot(ends, ends, color=GREY, linestyle=":", linewidth=1)
        ax.set(xlabel=f"gold reward, Best-of-{n}", title=f"Reward model trained on {kind}")
    axes[0].set_ylabel("gold reward, speculative rejection")
    return figure


@styled
def perplexity(result: dict, few: int, many: int) -> Figure:
    """Perplexity of the chosen responses, a line per prompt."""
    figure, axes = subplots(width=5.2, height=3.2)
    columns = np.stack([result["few"], result["search"], result["many"]])
    axes.plot(range(3), columns, ".-", color=GREY, alpha=0.6, linewidth=0.8)
    axes.plot(range(3), columns.mean(axis=1), "D-", color=VERMILION, label="mean over prompts")
    axes.set_xticks(range(3), [f"Best-of-{few}", "speculative\nrejection", f"Best-of-{many}"])
    axes.set(ylabel="perplexity", title="The model as its own reward (lower is better)")
    axes.grid(axis="x", visible=False)
    axes.legend()
    return figure
