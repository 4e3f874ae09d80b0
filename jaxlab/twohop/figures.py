"""Figures of the studies, from training histories and dissections."""

import numpy as np
from matplotlib.figure import Figure

from jaxlab.runs.figures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILION,
    styled,
    subplots,
)
from jaxlab.twohop.observables import ATTENTION_ROLES
from jaxlab.twohop.task import ROLE_NAMES
from jaxlab.twohop.transition import phase_transition

_STAGES = (
    ("layer 1: child to parent", BLUE),
    ("layer 2: query to bridge", ORANGE),
    ("layer 3: query to end", GREEN),
)


def circuit_attention(history: dict) -> list[np.ndarray]:
    """The three edges of the sequential query over training, `[E]` each, means over heads."""
    places = (("child_to_parent", 0), ("query_to_brg1", 1), ("query_to_end", 2))
    return [history[name][:, layer].mean(-1) for name, layer in places]


def edge_label(edge: tuple[int, str]) -> str:
    """`(0, "child_to_parent")` as `L1 child to parent`."""
    layer, name = edge
    return f"L{layer + 1} {name.replace('_', ' ')}"


@styled
def transition(outcomes: list, n_ends: int) -> Figure:
    """Loss and probabilities over training, a row per recipe, a line per seed."""
    names = list(dict.fromkeys(outcome.recipe.name for outcome in outcomes))
    figure, axes = subplots(len(names), 2, width=8.4, height=2.9 * len(names), squeeze=False)
    for name, (left, right) in zip(names, axes, strict=True):
        for outcome in outcomes:
            if outcome.recipe.name != name:
                continue
            history, first = outcome.result.history, outcome.seed == 0
            left.plot(history["step"], history["loss"], color=BLUE, linewidth=1.1)
            for field, label, color in (
                ("target_end", "right end", GREEN),
                ("other_end", "another end", VERMILION),
                ("src_brg", "a source or bridge", PURPLE),
            ):
                right.plot(
                    history["step"],
                    history[field],
                    color=color,
                    linewidth=1.1,
                    label=label if first else None,
                )
        left.axhline(np.log(n_ends), color="0.4", linestyle=":", linewidth=1)
        left.annotate(
            f"ln {n_ends}",
            (1, np.log(n_ends)),
            (-2, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color="0.4",
            fontsize=8,
        )
        left.set(ylabel="training loss (nats)", title=name.replace("_", " "))
        left.set_ylim(bottom=0)
        right.axhline(1 / n_ends, color="0.4", linestyle=":", linewidth=1)
        right.annotate(
            f"1/{n_ends}",
            (1, 1 / n_ends),
            (-2, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color="0.4",
            fontsize=8,
        )
        right.set(ylabel="probability per token", ylim=(-0.02, 1.02))
        right.legend(loc="center left")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    return figure


@styled
def role_attention(outcomes: list) -> Figure:
    """The three edges of the sequential query over training, a panel per recipe."""
    names = list(dict.fromkeys(outcome.recipe.name for outcome in outcomes))
    figure, axes = subplots(1, len(names), width=4.4 * len(names), height=3.1, squeeze=False)
    for name, ax in zip(names, axes[0], strict=True):
        for outcome in outcomes:
            if outcome.recipe.name != name:
                continue
            history = outcome.result.history
            curves = circuit_attention(history)
            for curve, (label, color) in zip(curves, _STAGES, strict=True):
                label = label if outcome.seed == 0 else None
                ax.plot(history["step"], curve, color=color, label=label, linewidth=1.2)
        ax.set(xlabel="step", ylim=(-0.02, 1.02), title=name.replace("_", " "))
    axes[0, 0].set_ylabel("mean attention weight")
    axes[0, 0].legend()
    return figure


@styled
def attention_maps(parts: dict, name: str) -> Figure:
    """Attention between roles in each layer, on the plateau and at the end."""
    figure, axes = subplots(2, 3, width=10.4, height=7.4, sharex=True, sharey=True)
    for (stage, title), row in zip(_STAGE_TITLES.items(), axes, strict=True):
        table = np.asarray(parts[stage]["attention_map"])
        present = np.flatnonzero(np.isfinite(table[0, :, 0]))
        labels = [ATTENTION_ROLES[role] for role in present]
        for layer, ax in enumerate(row):
            shown = table[layer][np.ix_(present, present)]
            image = ax.imshow(shown, vmin=0, vmax=1)
            ax.set_xticks(range(len(labels)), labels, rotation=90)
            ax.set_yticks(range(len(labels)), labels)
            ax.grid(False)
            ax.set_title(f"{title}, layer {layer + 1}")
        row[0].set_ylabel("from")
    for ax in axes[-1]:
        ax.set_xlabel("to")
    figure.colorbar(image, ax=axes, shrink=0.6, label="total attention weight")
    figure.suptitle(name.replace("_", " "), fontsize=9)
    return figure


_STAGE_TITLES = {"plateau": "plateau", "end": "after the jump"}


@styled
def ov_lens(parts: dict, name: str) -> Figure:
    """What each role's value writes in the last layer, as logits of its own chain's tokens."""
    figure, axes = subplots(1, 2, width=6.6, height=3.0, sharey=True)
    tables = [np.asarray(parts[stage]["ov"]) for stage in _STAGE_TITLES]
    limit = max(abs(table).max() for table in tables)
    for ax, table, title in zip(axes, tables, _STAGE_TITLES.values(), strict=True):
        image = ax.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        _annotate(ax, table, "{:+.1f}", lambda x: abs(x) > 0.6 * limit)
        ax.set_xticks(range(3), ("source", "bridge", "end"))
        ax.set_yticks(range(4), ROLE_NAMES[:4])
        ax.grid(False)
        ax.set(xlabel="token", title=f"{title}, layer 3")
    axes[0].set_ylabel("position")
    figure.colorbar(image, ax=axes, shrink=0.8, label="logit above mean")
    figure.suptitle(name.replace("_", " "), fontsize=9)
    return figure


@styled
def knockouts(accuracy: np.ndarray, edges: tuple) -> Figure:
    """Accuracy without each edge: mean over seeds as bars, each seed as a dot."""
    figure, axes = subplots(width=6.0, height=3.0)
    labels = [edge_label(edge) for edge in edges]
    colors = [VERMILION] * 3 + [BLUE] * 3 + [SKY] * (len(edges) - 6)
    places = np.arange(len(edges))[::-1]
    axes.barh(places, accuracy.mean(0), color=colors, height=0.6)
    for row in accuracy:
        axes.plot(row, places, "o", color=BLACK, markersize=2.5)
    axes.set_yticks(places, labels)
    axes.set(xlabel="accuracy without the edge", xlim=(0, 1.02))
    axes.grid(axis="y", visible=False)
    axes.set_title("Red: edges of the sequential query; blue: idle ones")
    return figure


@styled
def patch_sweeps(parts: dict, name: str) -> Figure:
    """Probability of the clean answer for each patched layer and role, two hops by two stages."""
    figure, axes = subplots(2, 2, width=7.4, height=5.2, sharex=True, sharey=True)
    for row, (stage, title) in zip(axes, _STAGE_TITLES.items(), strict=True):
        for ax, (hop, table) in zip(row, sorted(parts[stage]["patches"].items()), strict=True):
            image = ax.imshow(table, vmin=0, vmax=1, aspect="auto")
            _annotate(ax, table, "{:.2f}", lambda x: x < 0.5)
            ax.set_xticks(range(len(ROLE_NAMES)), ROLE_NAMES)
            layers = len(table) - 1
            ax.set_yticks(range(layers + 1), [*(f"layer {i + 1}" for i in range(layers)), "output"])
            ax.grid(False)
            ax.set_title(f"{title}, {hop}s exchanged")
    for ax in axes[-1]:
        ax.set_xlabel("patched position")
    for ax in axes[:, 0]:
        ax.set_ylabel("patched before")
    figure.colorbar(image, ax=axes, shrink=0.7, label="p(clean answer)")
    figure.suptitle(name.replace("_", " "), fontsize=9)
    return figure


@styled
def three_param(flow: dict, swept: dict, stepsize: float, outcomes: list) -> Figure:
    """The three-parameter model: its curves, over competitors, and over the transformer's."""
    figure, (left, middle, right) = subplots(1, 3, width=11.4, height=3.2)
    time = stepsize * np.arange(len(flow["loss"]))
    left.plot(time, flow["loss"], color=BLACK, label="loss")
    for name, color in (("alpha", BLUE), ("beta", ORANGE), ("gamma", GREEN)):
        left.plot(time, flow[name], color=color, label=name)
    left.set(xlabel="time", title="Loss and parameters")
    left.legend()
    time = stepsize * np.arange(swept["prob"].shape[1])
    for n, prob in zip(swept["competitors"], swept["prob"], strict=True):
        middle.plot(time, prob, label=f"n = {n:g}")
    middle.set(xlabel="time", ylabel="p(answer)", title="More competitors, longer plateau")
    middle.legend()
    report = phase_transition(np.arange(len(flow["prob"])), flow["prob"])
    steps = np.arange(len(flow["prob"])) / report.onset
    shown = steps <= 1.6
    right.plot(steps[shown], flow["prob"][shown], color=BLACK, label="three parameters", zorder=3)
    for number, outcome in enumerate(outcomes):
        history = outcome.result.history
        right.plot(
            history["step"] / outcome.report.onset,
            history["target_end"],
            color=SKY,
            linewidth=1.0,
            label="transformer, each seed" if number == 0 else None,
        )
    right.set(xlabel="time / onset", ylabel="p(answer)", title="Each with its own clock")
    right.set_xlim(0, 1.6)
    right.legend(loc="center left")
    return figure


@styled
def accuracy_by_chains(chains: tuple, curves: dict) -> Figure:
    """Accuracy over the number of chains, a line per model with the range over seeds."""
    figure, axes = subplots(width=5.0, height=3.3)
    chains = np.asarray(chains)
    for (label, scores), color in zip(curves.items(), PALETTE, strict=False):
        accuracy = scores.accuracy
        axes.plot(chains, accuracy.mean(0), "o-", color=color, label=label)
        axes.fill_between(chains, accuracy.min(0), accuracy.max(0), color=color, alpha=0.2)
    axes.plot(chains, 1 / chains, ":", color="0.4", label="guessing, 1/K")
    axes.set(xlabel="chains K in the context", ylabel="accuracy", ylim=(0, 1.03))
    axes.set_xticks(chains)
    axes.legend()
    return figure


@styled
def language_by_chains(before: dict, after: dict | None) -> Figure:
    """A language model's probabilities and accuracy over the number of chains."""
    figure, (left, right) = subplots(1, 2, width=8.4, height=3.2, sharey=True)
    for scores, style, when in ((before, "o--", "before"), (after, "o-", "fine-tuned")):
        if scores is None:
            continue
        chains = scores["chains"]
        for name, label, color in (("target", "right end", GREEN), ("other", "another", VERMILION)):
            left.errorbar(
                chains,
                scores[f"p_{name}"],
                2 * scores[f"se_{name}"],
                fmt=style,
                color=color,
                label=f"{label}, {when}",
            )
        right.plot(chains, scores["accuracy"], style, color=BLUE, label=f"any token, {when}")
        right.plot(
            chains, scores["accuracy_ends"], style, color=SKY, label=f"among the ends, {when}"
        )
    for ax in (left, right):
        ax.plot(before["chains"], 1 / before["chains"], ":", color="0.4", label="1/K")
        ax.set(xlabel="chains K in the context", ylim=(-0.02, 1.03))
        ax.set_xticks(before["chains"])
        ax.legend()
    left.set(ylabel="probability of the first token")
    right.set(title="Accuracy")
    return figure


@styled
def language_attention(before: dict, after: dict | None, roles: tuple) -> Figure:
    """Attention of the last position to each role in every layer, its strongest head."""
    shown = [("before", before)] + ([] if after is None else [("fine-tuned", after)])
    figure, axes = subplots(1, len(shown), width=4.6 * len(shown), height=3.6, squeeze=False)
    for ax, (when, scores) in zip(axes[0], shown, strict=True):
        image = ax.imshow(scores["attention"][-1].max(1), vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(roles)), roles, rotation=90)
        ax.grid(False)
        ax.set(ylabel="layer", title=f"{when}, K = {scores['chains'][-1]}")
    figure.colorbar(image, ax=axes, shrink=0.8, label="attention of the strongest head")
    return figure


def _annotate(ax, table: np.ndarray, form: str, is_dark) -> None:
    for (row, column), value in np.ndenumerate(np.asarray(table)):
        color = "white" if is_dark(value) else "black"
        ax.text(column, row, form.format(value), ha="center", va="center", color=color, fontsize=7)
