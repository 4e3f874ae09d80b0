"""LS1 to LS4 and LS8: how fast the risk falls on separable data, against the theory's bound."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxlab.optim.bounds import log_risk_bound
from jaxlab.optim.gradient_descent import GDResult
from jaxlab.optim.perceptron import batch_perceptron, perceptron
from jaxlab.optim.problems import Problems, eta_label, sweep
from jaxlab.optim.statements import STATEMENTS
from jaxlab.runs import Claim, holds, not_run, spread

# Loss and rule of each variant. The abstract speaks of the second; its sentence is proved for the
# first, and the third is the rule for which it is observed with the logistic loss too.
VARIANTS = {
    "exponential": ("exponential", "risk"),
    "logistic_risk": ("logistic", "risk"),
    "logistic_potential": ("logistic", "potential"),
}
IMBALANCE_ETAS = (10.0, 100.0, 1e3, 1e4, 1e5)
# Of the bound, in units of max(1, eta): what float64 rounding may add to a logarithm of size eta.
TOLERANCE = 1e-6


def measure(problems: Problems, etas: Sequence[float], num_steps: int) -> dict:
    """Runs every variant on every problem with every eta; keeps [S, E] and the first set's path."""
    return {
        name: _summarize(problems, etas, sweep(problems, etas, num_steps, loss=loss, rule=rule))
        for name, (loss, rule) in VARIANTS.items()
    }


def measure_perceptrons(problems: Problems) -> dict:
    """Updates of the online and the batch Perceptron on every problem, [S]; -1 where it gave up."""
    counted = problems.weight > 0

    def updates(run):
        masked = jax.vmap(lambda X, y, mask: run(X, y, mask=mask))
        found = masked(problems.X, problems.y, counted)
        return np.where(found.converged, found.num_updates, -1)

    return {"online": updates(perceptron), "batch": updates(batch_perceptron)}


def measure_imbalance() -> dict:
    """999 samples at (1, 0) against one at (-0.9, 0.4): the mean logistic risk's worst case."""
    margin = 0.4 / np.hypot(1.9, 0.4)
    problem = Problems(
        X=np.array([[[1.0, 0.0], [-0.9, 0.4]]]),
        y=np.ones((1, 2)),
        weight=np.array([[999.0, 1.0]]),
        margin=np.array([margin]),
        size=np.array([1000]),
    )
    return measure(problem, IMBALANCE_ETAS, num_steps=1000) | {"margin": margin}


def burn_in_steps(margin: np.ndarray, times: float = 1.0) -> np.ndarray:
    """The first step t >= times / margin^2."""
    return np.ceil(times / np.asarray(margin) ** 2).astype(int)


def _summarize(problems: Problems, etas: Sequence[float], result: GDResult) -> dict:
    etas = np.asarray(etas)
    num_sets, num_steps = len(problems.margin), result.mass.shape[-1]
    t = np.arange(1, num_steps + 1)
    bound = log_risk_bound(etas[:, None], problems.margin[:, None, None], t)  # [S, E, T]
    best = np.minimum.accumulate(result.log_risk, axis=-1)[..., :-1]  # among w_0, ..., w_{t-1}
    at = burn_in_steps(problems.margin, 2)
    after = result.log_risk_avg[np.arange(num_sets), :, np.minimum(at, num_steps)]
    rises = np.diff(result.log_risk, axis=-1)
    noise = 1e-9 * np.maximum(1, np.abs(result.log_risk[..., 1:]))
    return {
        "excess_average": (result.log_risk_avg[..., 1:] - bound).max(axis=-1) / np.maximum(1, etas),
        "excess_best": (best - bound).max(axis=-1) / np.maximum(1, etas),
        "after_burn_in": np.where(at[:, None] <= num_steps, -after / etas, np.nan),
        "rises": (rises > noise).any(axis=-1),
        "first_separated": result.first_separated,
        "path": {
            name: getattr(result, name)[0]
            for name in (
                "log_risk",
                "log_risk_avg",
                "min_margin",
                "min_margin_avg",
                "log_stepsize",
                "mass",
            )
        },
    }


def claims(problems: Problems, etas, measured: dict, perceptrons: dict) -> list[Claim]:
    """The rows LS1 to LS4 and LS8 from what `measure` and `measure_perceptrons` returned."""
    return [
        *(
            _bound_row(row, problems, etas, measured[variant])
            for row, variant in _BOUND_ROWS.items()
        ),
        _arbitrarily_small_row(etas, measured["exponential"]),
        _monotonicity_row(etas, measured["exponential"]),
        _perceptron_row(problems, etas, measured["exponential"], perceptrons),
    ]


_BOUND_ROWS = {"LS1": "exponential", "LS2": "logistic_risk", "LS2b": "logistic_potential"}
_REMARKS = {
    "LS1": "Proved for every eta.",
    "LS2": "phi is not convex for a mean of logistic losses, and one wrong sample among n has mass "
    "1/n: see the figure imbalance.",
    "LS2b": "The stepsize is eta over the mean slope in place of the paper's rule.",
}


def _bound_row(row: str, problems: Problems, etas, result: dict) -> Claim:
    num_steps = result["path"]["log_risk"].shape[-1] - 1
    excess = np.maximum(result["excess_average"], result["excess_best"])  # [S, E]
    violated = ~(excess <= TOLERANCE)  # nan is no bound kept
    # Before the burn-in the bound allows a risk that rises, and nearly nothing is above it.
    if (burn_in_steps(problems.margin) > num_steps).any() and not violated.any():
        return not_run(row, STATEMENTS[row], "1/gamma^2 steps are more than --max_steps.")
    per_eta = ", ".join(
        f"eta {eta_label(eta)}: {count}/{len(violated)}"
        for eta, count in zip(etas, violated.sum(axis=0), strict=True)
    )
    return Claim(
        row,
        STATEMENTS[row],
        "ln L <= -Theta(eta) for t >= 1/gamma^2",
        f"{violated.sum()} of {violated.size} runs above; per set at most "
        f"{most_above(excess.max(axis=1))}",
        holds(not violated.any()),
        unit="max(1, eta)",
        detail=f"ln L of the average and of the best iterate against -eta (gamma^2 t - 1)/2 at "
        f"every t. Criterion: no run above it by {TOLERANCE:g} max(1, eta). Runs above it: "
        f"{per_eta}. {_REMARKS[row]}",
    )


def most_above(excess: np.ndarray) -> str:
    """The sets' largest excesses `[S]` over the bound as text; a set without a number is told."""
    if np.isfinite(excess).all():
        return f"{spread(excess):.2g}"
    return f"no number in {np.count_nonzero(~np.isfinite(excess))} of {excess.size} sets"


def _arbitrarily_small_row(etas, result: dict) -> Claim:
    after = result["after_burn_in"]
    if np.isnan(after).any():
        return not_run(
            "LS3",
            STATEMENTS["LS3"],
            "2/gamma^2 steps are more than --max_steps.",
        )
    return Claim(
        "LS3",
        STATEMENTS["LS3"],
        "-ln L = Theta(eta)",
        f"{spread(after.min(axis=1)):.3f}; min {after.min():.3f}",
        holds(after.min() >= 0.5),
        unit="eta",
        detail=f"-ln L(average)/eta at t = 2/gamma^2, least over eta up to {eta_label(max(etas))}. "
        "Criterion: >= 0.5 for every set.",
    )


def _monotonicity_row(etas, result: dict) -> Claim:
    etas, rises = np.asarray(etas), result["rises"]
    small, large = rises[:, etas <= 1], rises[:, etas >= 100]
    counts = zip(map(eta_label, etas), rises.sum(axis=0), strict=True)
    shares = ", ".join(f"{eta}: {count}/{len(rises)}" for eta, count in counts)
    if not small.size or not large.size:
        return Claim(
            "LS4",
            STATEMENTS["LS4"],
            "",
            shares,
            "reported",
            detail="Runs with a rise, per eta. The criterion needs an eta <= 1 and one >= 100.",
        )
    return Claim(
        "LS4",
        STATEMENTS["LS4"],
        "",
        shares,
        holds(not small.any() and large.all()),
        unit="runs with a rise",
        detail="By eta. Criterion: none at eta <= 1, all at eta >= 100.",
    )


def _perceptron_row(problems: Problems, etas, result: dict, perceptrons: dict) -> Claim:
    eta = float(max(etas))
    first = result["first_separated"][:, int(np.argmax(etas))]
    ours, online, batch = (
        np.where(steps >= 0, steps * problems.margin**2, np.inf)
        for steps in (first, perceptrons["online"], perceptrons["batch"])
    )
    limit = 1 + 2 * np.log(problems.size) / eta

    def shown(values):
        quantiles = "/".join(f"{q:.3f}" for q in np.quantile(values, [0, 0.5, 1], method="nearest"))
        return f"{quantiles} ({spread(values):.3f})" if np.isfinite(values).all() else quantiles

    return Claim(
        "LS8",
        STATEMENTS["LS8"],
        "<= 1",
        f"Perceptron {shown(online)}; GD {shown(ours)}; batch Perceptron {shown(batch)}",
        holds(all((steps <= limit).all() for steps in (ours, online, batch))),
        unit="1/gamma^2",
        detail=f"Updates until every sample is right, min/median/max over sets (mean); exponential "
        f"loss, eta {eta_label(eta)}. Criterion: all <= 1 + 2 ln(n)/eta.",
    )
