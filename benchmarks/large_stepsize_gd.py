"""Steps and seconds to a separator and to tiny risks, against scikit-learn, optax and L-BFGS.

    python benchmarks/large_stepsize_gd.py --workdir=out/benchmark_gd

(a) on five real sets and a hard chain: passes over the data and seconds until a separator, and
until risks of 1e-8 and 1e-300; (b) a sweep over 16 stepsizes against a loop of scikit-learn fits,
against one run, and one run against a bare scan of two products; (c) Perceptron updates. Rows that
we lose are shown like the others.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
import scipy.special
from harness import Row, keep_to_processors, parse_arguments, publish, side_by_side
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.svm import LinearSVC

from jaxlab import optim
from jaxlab.optim import real_data
from jaxlab.optim.problems import real_problem
from jaxlab.runs import Claim, holds

SETS = ("iris", "wine", "digits 3v8", "digits 1v8", "digits 0vR")
HARD = "hard chain d=20"
PASSES = (*range(1, 26), 32, 50, 100, 200, 500, 1000)
SWEEP = np.logspace(0, 6, 16)
SWEEP_STEPS = 1000


def load(name: str):
    """X, y, sample weights (None: equal) and the margin, in float64."""
    if name == HARD:
        hard = optim.hard_dataset_batch(20)
        return hard.X, hard.y, hard.sample_weight, hard.margin
    problem = real_problem(name)
    return problem.X[0], problem.y[0], None, problem.margin[0]


def sklearn_peers(weight):
    """Functions (passes, X, y) -> w of scikit-learn's linear classifiers."""
    logistic = functools.partial(LogisticRegression, fit_intercept=False, tol=1e-12)
    models = {
        "sklearn lbfgs": functools.partial(logistic, C=np.inf, solver="lbfgs"),
        "sklearn newton-cg": functools.partial(logistic, C=np.inf, solver="newton-cg"),
        "sklearn liblinear": functools.partial(logistic, C=1e6, solver="liblinear"),
        "sklearn Perceptron": functools.partial(Perceptron, fit_intercept=False, tol=None),
        "sklearn LinearSVC": functools.partial(
            LinearSVC, C=1e6, loss="hinge", fit_intercept=False, tol=1e-12
        ),
    }

    def fit(model, passes, X, y):
        return model(max_iter=passes).fit(X, y, sample_weight=weight).coef_[0]

    return {name: functools.partial(fit, model) for name, model in models.items()}


def fewest_passes(fit, X, y) -> int | None:
    """The least number in PASSES with which `fit` separates the data."""
    for passes in PASSES:
        w = fit(passes, X, y)
        if (y * (X @ w)).min() > 1e-9 * np.linalg.norm(w) > 0:
            return passes
    return None


@functools.partial(jax.jit, static_argnames=("name", "num_steps"))
def run_optax(name: str, X, y, num_steps: int) -> dict:
    """A trajectory of optax on the logistic risk."""
    tx = {
        "optax polyak_sgd": functools.partial(optax.polyak_sgd, max_learning_rate=1e300),
        "optax lbfgs": optax.lbfgs,
    }[name]()

    def risk(w):
        return jnp.exp(optim.log_risk(y * (X @ w)))

    def step(carry, _):
        w, state = carry
        value, grads = jax.value_and_grad(risk)(w)
        updates, state = tx.update(grads, state, w, value=value, grad=grads, value_fn=risk)
        z = y * (X @ w)
        norm = jnp.maximum(jnp.linalg.norm(w), 1e-300)
        return (optax.apply_updates(w, updates), state), (optim.log_risk(z), z.min() / norm)

    start = jnp.zeros(X.shape[1])
    risks, margins = jax.lax.scan(step, (start, tx.init(start)), length=num_steps + 1)[1]
    return {"log_risk": risks, "min_margin": margins}


def separator_rows(name: str, rounds: int) -> list[Row]:
    """Our fewest steps to a separator against each peer's fewest passes."""
    X, y, weight, margin = load(name)
    most = 10 * len(y) if name == HARD else int(np.ceil(1 / margin**2))
    run = functools.partial(optim.run_gd, loss="exponential", sample_weight=weight)
    first = {eta: int(run(X, y, eta, most).first_separated) for eta in (100.0, 1e3, 1e4)}
    eta, steps = min(((e, n) for e, n in first.items() if n > 0), key=lambda pair: pair[1])
    X_device, y_device = jnp.asarray(X), jnp.asarray(y)

    def ours():
        return run(X_device, y_device, eta, steps)

    calls = {}
    for peer, fit in sklearn_peers(weight).items():
        passes = fewest_passes(fit, X, y)
        budget = passes or PASSES[-1]
        calls[peer] = passes, budget, functools.partial(fit, budget, X, y)
    for peer in ("optax polyak_sgd", "optax lbfgs") if weight is None else ():
        trajectory = run_optax(peer, X_device, y_device, 100)
        count = real_data.steps_to_separator(jax.device_get(trajectory))
        budget = count if count > 0 else 100
        calls[peer] = (
            count if count > 0 else None,
            budget,
            functools.partial(run_optax, peer, X_device, y_device, budget),
        )
    return [
        side_by_side(
            f"{name}: separator",
            ours,
            call,
            peer,
            rounds=rounds,
            note=f"{steps} steps at eta {eta:g}; "
            + (f"{passes} passes" if passes else f"none in {budget} passes"),
        )
        for peer, (passes, budget, call) in calls.items()
    ]


def run_lbfgs(X, y, most_evaluations: int, *, in_log: bool) -> dict:
    """SciPy's L-BFGS-B in NumPy on ln L (exponential loss) or L (logistic): ln L per evaluation."""
    signed, seen = y[:, None] * X, []

    def value_and_grad(w):
        z = signed @ w
        if in_log:
            value = scipy.special.logsumexp(-z) - np.log(len(z))
            seen.append(value)
            return value, -scipy.special.softmax(-z) @ signed
        value = np.logaddexp(0, -z).mean()
        seen.append(np.log(value) if value > 0 else -np.inf)
        return value, -scipy.special.expit(-z) @ signed / len(z)

    limits = {"maxfun": most_evaluations, "maxiter": most_evaluations, "ftol": 0, "gtol": 0}
    scipy.optimize.minimize(
        value_and_grad, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B", options=limits
    )
    return {"log_risk": np.array(seen)}


def tiny_risk_rows(name: str, rounds: int) -> list[Row]:
    """Exponential loss at eta 1e4 against SciPy's L-BFGS on ln L and on L."""
    X, y, _, margin = load(name)
    most = int(np.ceil(1 / margin**2))
    X_device, y_device = jnp.asarray(X), jnp.asarray(y)
    ours = jax.device_get(optim.run_gd(X, y, 1e4, most, loss="exponential"))._asdict()
    rows = []
    for target in (1e-8, 1e-300):
        steps = real_data.steps_to(ours, target)
        for peer, in_log in (("scipy L-BFGS on ln L", True), ("scipy L-BFGS on L", False)):
            found = real_data.steps_to(run_lbfgs(X, y, 1000, in_log=in_log), target)
            budget = found + 1 if found >= 0 else 400
            rows.append(
                side_by_side(
                    f"{name}: risk {target:.0e}",
                    functools.partial(
                        optim.run_gd, X_device, y_device, 1e4, steps, loss="exponential"
                    ),
                    functools.partial(run_lbfgs, X, y, budget, in_log=in_log),
                    peer,
                    rounds=rounds,
                    note=f"{steps} steps; "
                    + (f"{found} evaluations" if found >= 0 else "never; given 400 evaluations"),
                )
            )
    return rows


def sweep_rows(rounds: int) -> tuple[list[Row], list[Claim]]:
    """16 etas in one program, in float32 on digits 0vR."""
    X, y = (jnp.asarray(array, jnp.float32) for array in load("digits 0vR")[:2])
    X_host, y_host = np.asarray(X), np.asarray(y)

    @functools.partial(jax.jit, static_argnames=("loss", "rule"))
    def sweep(etas, loss, rule):
        def run(eta):
            return optim.run_gd(X, y, eta, SWEEP_STEPS, loss=loss, rule=rule)

        return jax.vmap(run)(etas)

    @jax.jit
    def two_products(w):
        def step(w, _):
            z = X @ w
            return w + 1e-3 * (z @ X), z[0]

        return jax.lax.scan(step, w, length=SWEEP_STEPS)

    def sklearn_loop():
        for C in SWEEP:
            LogisticRegression(C=C, fit_intercept=False, max_iter=SWEEP_STEPS).fit(X_host, y_host)

    etas, rows, claims = jnp.asarray(SWEEP, jnp.float32), [], []
    for loss, rule in (("exponential", "risk"), ("logistic", "risk"), ("logistic", "potential")):
        one = functools.partial(optim.run_gd, X, y, 1e3, SWEEP_STEPS, loss=loss, rule=rule)
        label = f"{loss}, {rule}"
        scan = side_by_side(
            f"one run of {SWEEP_STEPS} steps, {label}",
            one,
            functools.partial(two_products, jnp.ones(X.shape[1])),
            "two products per step, nothing else",
            rounds=rounds,
        )
        sixteen = side_by_side(
            f"16 etas, {label}",
            functools.partial(sweep, etas, loss, rule),
            one,
            "one eta",
            rounds=rounds,
        )
        rows += [scan, sixteen]
        claims += [
            _ratio_claim(f"GD-scan {label}", "One run costs at most 3 bare scans.", scan, 3),
            _ratio_claim(f"GD-sweep {label}", "16 etas cost at most 6 single runs.", sixteen, 6),
        ]
    rows.append(
        side_by_side(
            "16 etas, exponential, risk",
            functools.partial(sweep, etas, "exponential", "risk"),
            sklearn_loop,
            "sklearn lbfgs, 16 values of C",
            rounds=rounds,
            note=f"{SWEEP_STEPS} steps with trajectories; fits to their tolerance",
        )
    )
    return rows, claims


def _ratio_claim(name: str, statement: str, row: Row, most: float) -> Claim:
    ratio = 1 / row.speedup
    return Claim(name, statement, f"<= {most}", f"{ratio:.2f}", holds(ratio <= most), unit="times")


def perceptron_rows(rounds: int) -> tuple[list[Row], list[Claim]]:
    """The Perceptron to convergence on digits 0vR, cyclic and float32 on both sides."""
    X, y = (jnp.asarray(array, jnp.float32) for array in load("digits 0vR")[:2])
    X_host, y_host = np.asarray(X), np.asarray(y)
    result = optim.perceptron(X, y)
    passes = int(result.num_passes)
    row = side_by_side(
        "digits 0vR: Perceptron",
        functools.partial(optim.perceptron, X, y),
        lambda: Perceptron(shuffle=False, tol=None, max_iter=passes, fit_intercept=False).fit(
            X_host, y_host
        ),
        "sklearn Perceptron, as many passes",
        rounds=rounds,
        note=f"{int(result.num_updates)} updates in {passes} passes: "
        f"{int(result.num_updates) / measure_seconds(optim.perceptron, X, y):.3g} updates/s",
    )
    return [row], [
        _ratio_claim("GD-perceptron", "A separator within 3 times sklearn's Perceptron.", row, 3)
    ]


def measure_seconds(call, *arguments) -> float:
    """Median seconds of a compiled call."""
    row = side_by_side("", *(2 * [functools.partial(call, *arguments)]), "")
    return row.ours_s


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    keep_to_processors(1)
    warnings.filterwarnings("ignore")  # peers stopped at a pass count say so at every fit
    rows, claims = [], []
    with jax.enable_x64(True):
        for name in (*SETS, HARD):
            rows += separator_rows(name, arguments.rounds)
        for name in SETS:
            rows += tiny_risk_rows(name, arguments.rounds)
    for part in (sweep_rows, perceptron_rows):
        more_rows, more_claims = part(arguments.rounds)
        rows += more_rows
        claims += more_claims
    publish("Gradient descent with large stepsizes", rows, claims, arguments.workdir)


if __name__ == "__main__":
    main()
