"""LS11 and LS12: real data sets, against constant and small stepsizes, Perceptrons and L-BFGS."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

from jaxlab.optim.convergence import burn_in_steps
from jaxlab.optim.losses import log_risk
from jaxlab.optim.perceptron import batch_perceptron, perceptron
from jaxlab.optim.problems import Problems, eta_label, sweep
from jaxlab.optim.statements import STATEMENTS
from jaxlab.runs import Claim, holds, not_run, spread

TARGETS = (1e-2, 1e-8, 1e-30, 1e-100, 1e-300)
# What the paper's rules are compared with: loss, rule, etas.
BASELINES = {
    "constant": ("logistic", "constant", (4.0, 100.0, 1000.0)),
    "risk": ("logistic", "risk", (1.0,)),
    "l2": ("logistic", "l2", (1.0,)),
}
_MOST_EVALUATIONS = 1000  # of L-BFGS
ADAPTIVE = {"exponential": ("exponential", "risk"), "potential": ("logistic", "potential")}


def measure(
    problem: Problems, etas: Sequence[float], num_steps: int, seed: int, num_orders: int
) -> dict:
    """Trajectories {method: {eta: {log_risk [T+1], min_margin [T+1]}}} on one data set.

    The adaptive rules run for 1/margin^2 steps (100 to `num_steps`), the others for `num_steps`.
    `orders` holds first separators under permutations of the samples: with a huge eta, rounding
    decides between trajectories, and the order of summation decides about rounding.
    """
    within = min(num_steps, max(int(burn_in_steps(problem.margin[0])), 100))
    X, y = problem.X[0], problem.y[0]
    measured = {
        name: _trajectories(problem, etas, within, loss, rule)
        for name, (loss, rule) in ADAPTIVE.items()
    }
    for name, (loss, rule, base_etas) in BASELINES.items():
        measured[name] = _trajectories(problem, base_etas, num_steps, loss, rule)
    measured["polyak"] = {"": _polyak(X, y, num_steps)}
    measured["lbfgs"] = {"": _lbfgs(X, y, "logistic", in_log=False)}
    measured["lbfgs_log"] = {"": _lbfgs(X, y, "exponential", in_log=True)}
    online, batch = perceptron(X, y), batch_perceptron(X, y)
    rng = np.random.default_rng(seed)
    return {
        "margin": problem.margin[0],
        "size": np.array(X.shape),
        "trajectories": measured,
        "perceptron": {
            "updates": online.num_updates,
            "passes": online.num_passes,
            "converged": online.converged,
        },
        "batch_perceptron": {"updates": batch.num_updates, "converged": batch.converged},
        "orders": _over_orders(X, y, nearest(etas, 1e3), within, rng, num_orders),
    }


def nearest(etas: Sequence[float], wanted: float) -> float:
    """The eta of the sweep that is closest to `wanted` on a log scale."""
    return float(min(etas, key=lambda eta: abs(np.log(eta / wanted))))


def _trajectories(problem, etas, num_steps, loss, rule) -> dict:
    result = sweep(problem, etas, num_steps, loss=loss, rule=rule)
    return {
        eta_label(eta): {"log_risk": result.log_risk[0, i], "min_margin": result.min_margin[0, i]}
        for i, eta in enumerate(etas)
    }


def _over_orders(X, y, eta, num_steps, rng, num_orders) -> np.ndarray:
    orders = [rng.permutation(len(y)) for _ in range(num_orders)]
    permuted = Problems(
        X=np.stack([X[order] for order in orders]),
        y=np.stack([y[order] for order in orders]),
        weight=np.ones((num_orders, len(y))),
        margin=np.zeros(num_orders),
        size=np.full(num_orders, len(y)),
    )
    first_separated = sweep(permuted, [eta], num_steps, loss="exponential").first_separated
    return np.asarray(first_separated)[:, 0]


def _polyak(X, y, num_steps) -> dict:
    """optax.polyak_sgd on the logistic risk, told that the least risk is 0, without a cap.

    It stops by itself where |grad L|^2 falls to the machine epsilon.
    """
    tx = optax.polyak_sgd(max_learning_rate=1e300)

    def risk(w):
        return jnp.exp(log_risk(y * (X @ w)))

    @jax.jit
    def run(w):
        def step(carry, _):
            w, state = carry
            value, grads = jax.value_and_grad(risk)(w)
            updates, state = tx.update(grads, state, w, value=value)
            margins = y * (X @ w)
            return (optax.apply_updates(w, updates), state), _observed(margins, w)

        return jax.lax.scan(step, (w, tx.init(w)), length=num_steps + 1)[1]

    risks, margins = run(jnp.zeros(X.shape[1]))
    return {"log_risk": risks, "min_margin": margins}


def _observed(margins, w, loss="logistic"):
    norm = jnp.linalg.norm(w)
    return log_risk(margins, loss), jnp.where(norm > 0, margins.min() / norm, 0)


def _lbfgs(X, y, loss: str, *, in_log: bool) -> dict:
    """SciPy's L-BFGS-B on the risk or its logarithm; one entry per evaluation of value and grad."""
    seen = []

    def value_and_grad(w):
        (value, grads), observed = jax.device_get(_evaluate(X, y, w, loss, in_log))
        seen.append(observed)
        return float(value), grads

    scipy.optimize.minimize(
        value_and_grad,
        np.zeros(X.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": _MOST_EVALUATIONS, "maxiter": _MOST_EVALUATIONS, "ftol": 0, "gtol": 0},
    )
    risks, margins = np.transpose(seen)
    return {"log_risk": risks, "min_margin": margins}


@functools.partial(jax.jit, static_argnames=("loss", "in_log"))
def _evaluate(X, y, w, loss, in_log):
    def objective(w):
        value = log_risk(y * (X @ w), loss)
        return value if in_log else jnp.exp(value)

    return jax.value_and_grad(objective)(w), _observed(y * (X @ w), w, loss)


def steps_to(trajectory: dict, risk: float) -> int:
    """The first step (evaluation, for L-BFGS) with the last iterate at `risk` or below, or -1."""
    return _first(trajectory["log_risk"] <= np.log(risk))


def steps_to_separator(trajectory: dict) -> int:
    """The first step whose iterate separates the data, or -1."""
    return _first(trajectory["min_margin"] > 1e-6)


def _first(hits: np.ndarray) -> int:
    return int(np.argmax(hits)) if hits.any() else -1


def table(measured: dict[str, dict]) -> str:
    """A Markdown table of steps to a separator and to each target, per set and method."""
    heads = ["separator", *(f"{target:.0e}" for target in TARGETS)]
    lines = [
        "Steps, or gradient evaluations for L-BFGS, of the last iterate; - for never.",
        "",
        f"| data | 1/gamma^2 | method | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(heads)}",
    ]
    for data, result in measured.items():
        burn_in = f"{1 / result['margin'] ** 2:.4g}"
        for method, by_eta in result["trajectories"].items():
            for eta, trajectory in by_eta.items():
                steps = [steps_to_separator(trajectory)]
                steps += [steps_to(trajectory, target) for target in TARGETS]
                shown = " | ".join("-" if step < 0 else str(step) for step in steps)
                name = f"{method}, eta {eta}" if eta else method
                lines.append(f"| {data} | {burn_in} | {name} | {shown} |")
        for name in ("perceptron", "batch_perceptron"):
            updates = f"{int(result[name]['updates'])} updates"
            updates = updates if result[name]["converged"] else f"none in {updates}"
            lines.append(f"| {data} | {burn_in} | {name} | {updates} |{' - |' * len(TARGETS)}")
    return "\n".join(lines) + "\n"


def claims(measured: dict[str, dict], etas: Sequence[float], num_steps: int) -> list[Claim]:
    """The rows LS11 and LS12; sets whose 1/gamma^2 is above `num_steps` are named as the limit."""
    within = {
        name: result for name, result in measured.items() if 1 / result["margin"] ** 2 <= num_steps
    }
    beyond = [
        f"{name} (1/gamma^2 = {1 / result['margin'] ** 2:.2g})"
        for name, result in measured.items()
        if name not in within
    ]
    limit = f" Out of reach of {num_steps} steps: {', '.join(beyond)}." if beyond else ""
    if not within:
        return [not_run(row, STATEMENTS[row], limit.strip()) for row in ("LS11", "LS12")]
    return [
        _small_risk_row(within, nearest(etas, 1e4), limit),
        _separator_row(within, nearest(etas, 1e3), limit),
    ]


def _small_risk_row(within: dict, eta: float, limit: str) -> Claim:
    shown, reached = [], True
    for name, result in within.items():
        burn_in = 1 / result["margin"] ** 2
        steps = {
            method: steps_to(result["trajectories"][method][eta_label(eta)], TARGETS[-1])
            for method in ADAPTIVE
        }
        reached &= all(0 <= step <= burn_in for step in steps.values())
        shown.append(f"{name} {steps['exponential']}/{steps['potential']} of {burn_in:.0f}")
    example = "digits 3v8" if "digits 3v8" in within else list(within)[-1]
    trajectories = within[example]["trajectories"]
    slow = [
        f"constant {base_eta}: {_steps_to_targets(trajectory)}"
        for base_eta, trajectory in trajectories["constant"].items()
    ]
    slow.append(f"risk eta 1: {_steps_to_targets(trajectories['risk']['1'])}")
    quasi_newton = _steps_to_targets(trajectories["lbfgs_log"][""])
    return Claim(
        "LS11",
        STATEMENTS["LS11"],
        "",
        "; ".join(shown),
        holds(reached),
        unit="steps to risk 1e-300",
        detail=f"Exponential/logistic potential at eta {eta_label(eta)}. Criterion: both within "
        f"1/gamma^2, the last number. Steps to 1e-2/1e-8/1e-30/1e-100/1e-300 on {example}: "
        f"{', '.join(slow)}; L-BFGS on ln L, in evaluations: {quasi_newton}. After separation any "
        f"method can scale w: the burn-in is what counts.{limit}",
    )


def _steps_to_targets(trajectory: dict) -> str:
    steps = [steps_to(trajectory, target) for target in TARGETS]
    return "/".join("-" if step < 0 else str(step) for step in steps)


def _found(orders: np.ndarray) -> str:
    """First separators over the orders that found one, and how many never did."""
    found = orders[orders >= 0]
    shown = f"{spread(found):.3g}" if found.size else "none"
    never = orders.size - found.size
    return f"{shown} ({never} of {orders.size} never)" if never else shown


def _separator_row(within: dict, eta: float, limit: str) -> Claim:
    found = all(
        ((result["orders"] >= 0) & (result["orders"] <= 1 / result["margin"] ** 2)).all()
        for result in within.values()
    )
    shown = "; ".join(
        f"{name} {_found(result['orders'])} of {1 / result['margin'] ** 2:.0f}"
        for name, result in within.items()
    )
    peers = "; ".join(
        f"{name} {int(result['perceptron']['updates'])} updates in "
        f"{int(result['perceptron']['passes'])} passes, "
        f"{steps_to_separator(result['trajectories']['lbfgs'][''])} evaluations"
        for name, result in within.items()
    )
    return Claim(
        "LS12",
        STATEMENTS["LS12"],
        "<= 1/gamma^2",
        shown,
        holds(found),
        unit="steps",
        detail=f"Exponential loss, eta {eta_label(eta)}, over permutations of the samples. "
        f"Criterion: all within 1/gamma^2. Perceptron and L-BFGS: {peers}.{limit}",
    )
