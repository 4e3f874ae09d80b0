"""Figures of the studies, from their stored results."""

import numpy as np
from matplotlib.figure import Figure

from jaxlab.runs.figures import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    VERMILION,
    band,
    styled,
    subplots,
)


@styled
def risk_by_context(curves: dict, noise_var: float) -> Figure:
    """Risk over the number of examples: Bayes, GD-beta, LSA, one step from zero."""
    figure, axes = subplots(width=5.6, height=3.6)
    lines = (
        ("gd_zero", "one GD step from zero", ORANGE, "s-"),
        ("lsa", "linear attention alone (optimal LSA)", VERMILION, "o-"),
        ("gd_beta", "block with MLP (optimal GD-beta)", BLUE, "o-"),
        ("bayes", "Bayes", BLACK, "--"),
    )
    for name, label, color, style in lines:
        axes.loglog(curves["contexts"], curves[name], style, label=label, color=color)
    axes.axhline(noise_var, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "noise",
        (curves["contexts"][0], noise_var),
        (2, 3),
        textcoords="offset points",
        color="0.4",
        fontsize=8,
    )
    axes.set(xlabel="labelled examples M", ylabel="in-context risk")
    axes.set_title("What the MLP buys: tasks with a non-zero mean")
    axes.legend()
    return figure


@styled
def excess_over_bayes(ratio, bound, snrs, config) -> Figure:
    """Ratio of excess risks over M, a panel per spectrum, with the proved bound."""
    figure, axes = subplots(1, 3, width=9.6, height=3.2, sharey=True)
    for decay, ax in enumerate(axes):
        for number, snr in enumerate(snrs):
            (line,) = ax.loglog(
                config.bayes_contexts, ratio[number, decay], "o-", label=f"SNR {snr:g}"
            )
            ax.axhline(bound[number, decay, 0], color=line.get_color(), linewidth=1, linestyle=":")
        ax.set_title(f"input spectrum $i^{{-{decay}}}$" if decay else "isotropic inputs")
        ax.set_xlabel("labelled examples M")
    axes[0].set_ylabel("excess risk, GD-beta / Bayes")
    axes[0].legend(title="dotted: proved bound", title_fontsize=8)
    return figure


@styled
def attention_gap(result: dict, config) -> Figure:
    """The gap of optimal attention against the mean's norm and against M, with both bounds."""
    figure, (left, right) = subplots(1, 2, width=8.4, height=3.3)
    dim, M = config.dim, config.num_context
    norms = np.asarray(config.gap_norms)
    squares = norms**2
    left.plot(norms, result["by_norm"]["gap"], "o-", label="optimal LSA")
    left.plot(norms, result["by_norm"]["bound"], ":", color=BLACK, label="lower bound")
    left.plot(
        norms, squares * (dim + 1) / (M + dim + 1), "--", color=ORANGE, label="one step from zero"
    )
    left.set(xlabel="norm of the prior mean", ylabel="risk above the block's minimum")
    left.set_title(f"Grows with the mean (M = {M})")
    left.legend()
    contexts, norm = np.asarray(config.gap_contexts), config.mean**2 * dim
    right.loglog(contexts, result["by_context"]["gap"], "o-")
    right.loglog(contexts, result["by_context"]["bound"], ":", color=BLACK)
    right.loglog(contexts, norm * (dim + 1) / (contexts + dim + 1), "--", color=ORANGE)
    right.set(xlabel="labelled examples M")
    right.set_title(f"Decays as 1/M (norm {np.sqrt(norm):.2f})")
    return figure


@styled
def training_curves(exact: dict, sampled: dict, levels: dict) -> Figure:
    """Training of LSA and LTB: to which level, and how far above it on the exact risk.

    For the LTB that excess is `E (f - f*)^2`, its squared distance to the optimal GD-beta: the odd
    part of the risk is quadratic around it and the even part vanishes there.
    """
    figure, (left, right) = subplots(1, 2, width=8.8, height=3.4)
    optima = {"lsa": float(levels["lsa"]), "ltb": float(levels["gd_beta"])}
    names = {"lsa": "attention alone (LSA)", "ltb": "with MLP (LTB)"}
    for name, color in (("lsa", VERMILION), ("ltb", BLUE)):
        curve = sampled[name]["loss_curve"]
        steps = np.linspace(0, int(sampled[name]["steps"]), curve.shape[1])
        band(left, steps, curve, label=names[name], color=color)
        left.axhline(optima[name], color=color, linewidth=1, linestyle=":")
        excess = np.maximum(exact[name]["loss_curve"] - optima[name], 1e-16)
        steps = np.linspace(0, int(exact[name]["steps"]), excess.shape[1])
        band(right, steps, excess, label=names[name], color=color)
    left.set(xlabel="Adam step", ylabel="loss on fresh prompts", yscale="log")
    left.set_title("Fresh prompts (dotted: exact optima)")
    left.legend()
    right.set(xlabel="Adam step", ylabel="exact risk above its optimum", yscale="log")
    right.set_title("Exact risk (LTB: squared distance to GD-beta)")
    return figure


@styled
def trained_weights(trained: dict, levels: dict) -> Figure:
    """Effective parameters of a trained LTB beside the construction of the optimal GD-beta."""
    figure, axes = subplots(2, 3, width=7.4, height=4.2, width_ratios=(1, 1, 4))
    value, query = trained["value"][0], trained["query"][0]
    scale = value[-1]  # (value, query) and (s value, query / s) are the same function
    beta, Gamma = levels["beta"], levels["Gamma"]
    rows = (
        ("trained", trained["skip"][0], value / scale, query * scale),
        (
            "constructed",
            beta,
            np.append(-beta, 1.0),
            np.vstack([Gamma.T, np.zeros((1, len(beta)))]),
        ),
    )
    limits = [np.abs(part).max() for part in rows[1][1:]]
    for number, (name, *parts) in enumerate(rows):
        for ax, part, limit, title in zip(
            axes[number], parts, limits, ("skip", "value", "query"), strict=True
        ):
            matrix = np.atleast_2d(part).T if np.ndim(part) == 1 else part
            image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.set_title(title if number == 0 else "")
            figure.colorbar(image, ax=ax, shrink=0.8)
        axes[number, 0].set_ylabel(name)
    return figure


@styled
def gradient_flow(result: dict, config) -> Figure:
    """Excess risk and parameter error along the flow, every start, a colour per condition."""
    figure, (left, right) = subplots(1, 2, width=8.4, height=3.3)
    for number, (condition, color) in enumerate(zip(config.flow_conditions, PALETTE, strict=False)):
        for start in range(result["time"].shape[1]):
            label = f"cond(H) = {condition:g}" if start == 0 else None
            time = result["time"][number, start]
            excess = np.maximum(result["excess_curve"][number, start], 1e-16)
            left.loglog(time, excess, color=color, linewidth=0.9, label=label)
            right.loglog(time, result["beta_error"][number, start], color=color, linewidth=0.9)
            right.loglog(
                time,
                result["Gamma_error"][number, start],
                color=color,
                linewidth=0.9,
                linestyle=":",
            )
    left.set(xlabel="time of the flow", ylabel="excess risk")
    left.set_title("From zero and from random starts")
    left.legend()
    right.set(xlabel="time of the flow", ylabel="distance to the optimum")
    right.set_title("beta (solid) and Gamma (dotted)")
    return figure


@styled
def transformer_losses(losses: dict, config) -> Figure:
    """Loss at each query position, with and without MLPs, a panel per mean."""
    means = sorted({mean for mean, _ in losses})
    figure, axes = subplots(1, len(means), width=8.4, height=3.3)
    for ax, mean in zip(axes, means, strict=True):
        for use_mlp, color in ((True, BLUE), (False, VERMILION)):
            loss = losses[mean, use_mlp]
            label = "with MLP" if use_mlp else "attention only"
            band(ax, np.arange(loss.shape[1]), loss, label=label, color=color, quantile=0)
        ax.axhline(config.dim + config.noise_var, color=GREY, linewidth=1, linestyle=":")
        ax.set_title(f"prior mean {mean:g} in every entry")
        ax.set(xlabel="labelled examples seen", ylabel="squared error")
        ax.legend()
    return figure


@styled
def real_tasks(risks: dict, name: str) -> Figure:
    """Held-out squared error of each estimator on real tasks."""
    figure, axes = subplots(width=5.2, height=2.8)
    names, values = list(risks), [float(value) for value in risks.values()]
    bars = axes.barh(names[::-1], values[::-1], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set(xlabel="squared error on held-out tasks (labels standardised)")
    axes.margins(x=0.15)
    axes.grid(axis="y", visible=False)
    axes.set_title(name)
    return figure
