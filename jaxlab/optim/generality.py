"""LS9 and LS10: other losses, and two-layer networks."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.optim.bounds import log_risk_bound
from jaxlab.optim.convergence import TOLERANCE, burn_in_steps, most_above
from jaxlab.optim.losses import margin_loss
from jaxlab.optim.problems import Problems, eta_label, sweep
from jaxlab.optim.statements import STATEMENTS
from jaxlab.optim.two_layer import init_two_layer, run_two_layer_gd
from jaxlab.runs import Claim, holds, not_run, spread

# Name, loss and degree.
LOSSES = {
    "exponential": ("exponential", 1.0),
    "logistic": ("logistic", 1.0),
    "flat_exponential": ("flat_exponential", 1.0),
    "polynomial1": ("polynomial", 1.0),
    "polynomial4": ("polynomial", 4.0),
    "semicircle": ("semicircle", 1.0),
}
RULES = ("potential", "risk")
SLOPES = (0.2, 0.5, 0.8)
NETWORKS = {
    "leaky_relu": ("exponential", "leaky_relu"),
    "leaky_softplus": ("exponential", "leaky_softplus"),
    "logistic": ("logistic", "leaky_relu"),
}
NETWORK_ETAS = (1.0, 100.0, 1e3)


def measure_losses(problems: Problems, eta: float) -> dict:
    """ln L of the average at t = 2/gamma^2 for every loss under both rules, [S]."""
    at = burn_in_steps(problems.margin, 2)
    measured: dict[str, Any] = {"eta": eta}
    for name, (loss, degree) in LOSSES.items():
        log_value = margin_loss(loss, degree=degree).log_value(jnp.asarray(eta / 2))
        measured[name] = {"target": log_value}
        for rule in RULES:
            result = sweep(problems, [eta], int(at.max()), loss=loss, rule=rule, degree=degree)
            measured[name][rule] = result.log_risk_avg[np.arange(len(at)), 0, at]
    return measured


def measure_networks(problems: Problems, width: int, num_steps: int) -> dict:
    """Best ln L so far of every network, [S, slope, eta, T], as its excess over the bound."""
    params = init_two_layer(jax.random.key(0), width, problems.X.shape[-1])
    measured = {}
    for name, (loss, activation) in NETWORKS.items():
        result = _sweep_networks(
            params, problems.X, problems.y, num_steps, loss=loss, activation=activation
        )
        kappa = 0.0 if activation == "leaky_relu" else (1 - np.array(SLOPES)) * np.log(2)
        bound = log_risk_bound(
            np.array(NETWORK_ETAS)[:, None],
            problems.margin[:, None, None, None],
            np.arange(1, num_steps + 1),
            slope=np.array(SLOPES)[:, None, None],
            kappa=np.reshape(kappa, (-1, 1, 1)),
        )
        best = np.minimum.accumulate(result.log_risk, axis=-1)
        measured[name] = {
            "excess": (best[..., :-1] - bound).max(axis=-1) / np.maximum(1, NETWORK_ETAS),
            "first_separated": np.asarray(result.first_separated),
            "best": best[0],
            "bound": bound[0],
        }
    return measured


@functools.partial(jax.jit, static_argnames=("num_steps", "loss", "activation"))
def _sweep_networks(params, X, y, num_steps, *, loss, activation):
    def run(X, y, slope, eta):
        return run_two_layer_gd(
            params, X, y, eta, num_steps, loss=loss, activation=activation, slope=slope
        )

    for axis in (3, 2, (0, 1)):
        axes = [0 if i in np.atleast_1d(axis) else None for i in range(4)]
        run = jax.vmap(run, in_axes=axes)
    return run(X, y, jnp.array(SLOPES), jnp.array(NETWORK_ETAS))


def claims(losses: dict | None, problems: Problems, networks: dict) -> list[Claim]:
    """The rows LS9 (not run where `losses` is None: too few steps) and LS10."""
    return [_losses_row(losses), _networks_row(problems, networks)]


def _losses_row(measured: dict | None) -> Claim:
    if measured is None:
        return not_run(
            "LS9",
            STATEMENTS["LS9"],
            "2/gamma^2 steps are more than --max_steps.",
        )
    below = all((measured[name]["potential"] <= measured[name]["target"]).all() for name in LOSSES)

    def medians(rule):
        return ", ".join(f"{name} {np.median(measured[name][rule]):.4g}" for name in LOSSES)

    targets = ", ".join(f"{name} {float(measured[name]['target']):.4g}" for name in LOSSES)
    ratios = [measured[name]["potential"] / measured[name]["target"] for name in LOSSES]
    return Claim(
        "LS9",
        STATEMENTS["LS9"],
        f"ln l(Theta(eta)); ln l(eta/2): {targets}",
        f"{medians('potential')}; over ln l(eta/2) at least {spread(np.min(ratios, axis=0)):.3f}",
        holds(below),
        unit="nats",
        detail=f"ln L(average) at t = 2/gamma^2, eta {eta_label(float(measured['eta']))}, rule "
        "potential, median over sets. Criterion: every set <= ln l(eta/2). Rule risk, as measured: "
        f"{medians('risk')}.",
    )


def _networks_row(problems: Problems, measured: dict) -> Claim:
    exponential = np.stack([measured[name]["excess"] for name in ("leaky_relu", "leaky_softplus")])
    logistic = measured["logistic"]["excess"]
    first = np.stack(
        [measured[name]["first_separated"] for name in ("leaky_relu", "leaky_softplus")]
    )
    separated = first[first >= 0]
    burn_in = 1 / (problems.margin[:, None] * np.array(SLOPES)) ** 2
    num_steps = measured["leaky_relu"]["bound"].shape[-1]
    within = burn_in <= num_steps
    above_bound = ~(exponential <= TOLERANCE)  # nan is no bound kept
    # Before the burn-in the bound allows a risk that rises, and nearly nothing is above it.
    if not within.any() and not above_bound.any():
        return not_run(
            "LS10", STATEMENTS["LS10"], "1/(alpha gamma)^2 steps are more than --network_steps."
        )
    above = ", ".join(
        f"slope {slope:g} eta {eta_label(eta)}: {count}"
        for (slope, eta), count in zip(
            itertools.product(SLOPES, NETWORK_ETAS),
            (logistic > TOLERANCE).sum(axis=0).ravel(),
            strict=True,
        )
        if count
    )
    steps = f" at {separated.min()} to {separated.max()} steps" if separated.size else ""
    return Claim(
        "LS10",
        STATEMENTS["LS10"],
        "ln L <= -Theta(eta) after 1/(alpha gamma)^2 steps",
        f"{above_bound.sum()} of {exponential.size} runs above the bound; per set at "
        f"most {most_above(exponential.max(axis=(0, 2, 3)))}",
        holds(not above_bound.any()),
        unit="max(1, eta)",
        detail=f"Best iterate against kappa - eta (alpha^2 gamma^2 t - 1)/2, exponential loss, "
        f"both activations, alpha in {list(SLOPES)}, eta in {list(NETWORK_ETAS)}. Criterion: none "
        f"above it. {separated.size} of {first.size} runs separated{steps}; 1/(alpha gamma)^2 "
        f"{burn_in.min():.0f} to {burn_in.max():.0f}, within the {num_steps} steps for "
        f"{within.sum()} of {within.size} pairs of set and alpha. Logistic loss with "
        f"the rule risk, sets above the bound (not judged): {above or 'none'}.",
    )
