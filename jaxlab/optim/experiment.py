"""Measures the claims on large adaptive stepsizes: LS1 to LS12, their figures and tables."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from jaxlab.optim import convergence, figures, generality, lower_bounds, real_data
from jaxlab.optim.data import check_labels, load_libsvm, load_npz, prepare
from jaxlab.optim.losses import margin_loss
from jaxlab.optim.problems import (
    REAL_SETS,
    Problems,
    eta_label,
    one_problem,
    random_problems,
    real_problem,
)
from jaxlab.optim.statements import STATEMENTS
from jaxlab.optim.stepsize import check_eta
from jaxlab.runs import Claim, Run, check_choices, check_least, digest, not_run, option, progress

_INSEPARABLE = (
    "{data} is not linearly separable: the theory does not apply. Add features (products, a "
    "kernel's features) or remove contradicting labels, and look at max_margin's certificate."
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure, and on how much data."""

    experiment: str = option(
        "all",
        "which rows: convergence (LS1-LS4, LS8), lower_bounds (LS5-LS7), generality (LS9, LS10), "
        "real (LS11, LS12), or all",
        choices=("all", "convergence", "lower_bounds", "generality", "real"),
    )
    seed: int = option(0, "seed of the generated data")
    eta: tuple[float, ...] = option(
        (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e6), "base stepsizes to sweep"
    )
    num_sets: int = option(60, "generated data sets for the convergence rows")
    num_samples: tuple[int, int] = option((20, 200), "least and most samples of a generated set")
    dims: tuple[int, ...] = option((5, 10, 20, 40, 60), "dimensions of the generated sets")
    margins: tuple[float, float] = option((0.06, 0.3), "least and largest margin asked of them")
    general_sets: int = option(20, "generated sets (80 samples in 20 dimensions) for LS9 and LS10")
    network_width: int = option(10, "hidden units of the two-layer networks")
    network_steps: int = option(2000, "steps of the two-layer networks")
    hard_dims: tuple[int, ...] = option((5, 10, 20, 40), "lengths of the hard chains")
    hard_losses: tuple[str, ...] = option(
        ("exponential", "logistic", "flat_exponential", "polynomial", "semicircle"),
        "losses tried on the hard chains",
    )
    real_sets: tuple[str, ...] = option(
        tuple(REAL_SETS), f"real data sets, of: {', '.join(REAL_SETS)}"
    )
    num_orders: int = option(5, "permutations of the samples of each real set")
    max_steps: int = option(3000, "most steps of a run, where 1/gamma^2 asks for more")
    data: str = option("", "your own data: an .npz file, or a text file in libsvm format")
    x_key: str = option("X", "name of the samples in the .npz file")
    y_key: str = option("y", "name of the labels in the .npz file")
    positive_class: str = option("", "label that becomes +1, the rest -1 (needed above two)")
    standardize: bool = option(False, "standardize the features of your own data")


PRESETS = {
    "smoke": Config(
        num_sets=5,
        num_samples=(20, 100),
        dims=(5, 20),
        margins=(0.08, 0.3),
        general_sets=4,
        network_steps=300,
        hard_dims=(5, 10, 20),
        hard_losses=("exponential", "logistic"),
        real_sets=("iris", "wine"),
        num_orders=3,
        max_steps=500,
    ),
    "small": Config(),
    "paper": Config(
        num_sets=200,
        num_samples=(20, 400),
        dims=(5, 20, 100, 400, 1000),
        general_sets=60,
        network_steps=5000,
        hard_dims=(5, 10, 20, 40, 80),
        num_orders=20,
    ),
}


_COUNTS = ("num_sets", "general_sets", "network_steps", "num_orders", "max_steps")


def run(config: Config, run: Run) -> list[Claim]:
    """Measures the chosen rows, draws the figures and writes claims.json.

    Raises:
      ValueError: an unknown experiment, loss or data set, sizes that make no sense, or a file that
        does not hold what it should.
      FileNotFoundError: no such file.
    """
    _check(config)
    chosen = list(_PARTS) if config.experiment == "all" else [config.experiment]
    rows: list[Claim] = []
    # The theory is checked to 1e-6 where logarithms of the risk reach 1e6.
    with jax.enable_x64(True):
        own = _own_problem(config) if config.data else None
        if own is not None and not own.separable:
            print(_INSEPARABLE.format(data=config.data))
        for name in progress(chosen, "large_stepsize_gd"):
            rows += _PARTS[name](config, run, own)
    return run.write_claims(sorted(rows, key=lambda claim: list(STATEMENTS).index(claim.id)))


def _check(config: Config) -> None:
    """Refuses before the first computation what would fail, or be nan, after a while."""
    check_choices(config)
    check_least(config, dict.fromkeys(_COUNTS, 1))
    if config.network_width < 2 or config.network_width % 2:
        raise ValueError(f"network_width must be even and >= 2, got {config.network_width}")
    for name in ("eta", "dims", "hard_dims", "hard_losses", "real_sets"):
        if not getattr(config, name):
            raise ValueError(f"{name} is empty: give at least one")
    check_eta(config.eta)
    for name in config.hard_losses:
        margin_loss(name)
    unknown = sorted(set(config.real_sets) - REAL_SETS.keys())
    if unknown:
        raise ValueError(f"real_sets must be of {', '.join(REAL_SETS)}, got {', '.join(unknown)}")


def _own_problem(config: Config) -> Problems:
    """The user's file as a problem: two classes, a constant feature, norms of at most 1."""
    path = Path(config.data)
    if path.suffix == ".npz":
        X, y = load_npz(path, x_key=config.x_key, y_key=config.y_key)
    else:
        X, y = load_libsvm(path)
    check_labels(y)
    labels = np.unique(y)
    if config.positive_class:
        matches = [label for label in labels if _same_label(label, config.positive_class)]
        if not matches:
            raise ValueError(
                f"{path} has no label {config.positive_class!r}, it has "
                f"{', '.join(map(str, labels[:10]))}: choose one with --positive_class"
            )
        y = y == matches[0]
    elif len(labels) > 2:
        raise ValueError(
            f"{path} has {len(labels)} labels ({', '.join(map(str, labels[:10]))}): choose the one "
            "that becomes +1 with --positive_class"
        )
    return one_problem(*prepare(X, y, standardize=config.standardize)[:2])


def _phase(name: str, own: Problems | None) -> str:
    """Where a result is kept: another file under the same name is another phase."""
    return name if own is None else f"{name}_{digest((own.X, own.y))}"


def _same_label(label, text: str) -> bool:
    try:
        return float(label) == float(text)
    except ValueError:
        return str(label) == text


def _not_run(config: Config, rows: Iterable[str]) -> list[Claim]:
    reason = _INSEPARABLE.format(data=config.data)
    return [not_run(row, STATEMENTS[row], reason) for row in rows]


def _convergence(config: Config, run: Run, own: Problems | None) -> list[Claim]:
    imbalance = run.once("imbalance", convergence.measure_imbalance)
    run.figure("imbalance", figures.imbalance(imbalance))
    if own is not None and not own.separable:
        return _not_run(config, ("LS1", "LS2", "LS2b", "LS3", "LS4", "LS8"))
    problems = own or random_problems(
        config.seed,
        config.num_sets,
        num_samples=config.num_samples,
        dims=config.dims,
        margins=config.margins,
    )
    num_steps = min(convergence.burn_in_steps(problems.margin, 2).max(), config.max_steps)
    measured = run.once(
        _phase("convergence", own),
        lambda: convergence.measure(problems, config.eta, int(num_steps)),
    )
    perceptrons = run.once(
        _phase("perceptron_updates", own), lambda: convergence.measure_perceptrons(problems)
    )
    _log_paths(run, config.eta, measured)
    run.figure("risk", figures.risk(measured, config.eta, problems.margin[0]))
    run.figure("stepsizes", figures.stepsizes(measured, config.eta))
    run.figure("margins", figures.margins(measured, config.eta, problems.margin[0]))
    run.figure("burn_in", figures.burn_in(problems.margin, measured, config.eta, perceptrons))
    return convergence.claims(problems, config.eta, measured, perceptrons)


def _log_paths(run: Run, etas, measured: dict) -> None:
    """Metrics of the first data set, per step; a run that is started again has most of them."""
    logged = {row["step"]: row for row in run.metrics()}
    paths = {name: result["path"] for name, result in measured.items()}
    num_steps = paths["exponential"]["log_risk"].shape[-1]
    for t in range(num_steps):
        scalars = {
            f"{name}/eta_{eta_label(eta)}/{quantity}": float(path[quantity][i, t])
            for name, path in paths.items()
            for quantity in ("log_risk", "log_risk_avg", "min_margin")
            for i, eta in enumerate(etas)
        }
        if logged.get(t) != {"step": t} | scalars:
            run.log(t, **scalars)


def _lower_bounds(config: Config, run: Run, own: Problems | None) -> list[Claim]:
    batch = run.once(
        "hard_batch", lambda: lower_bounds.measure_batch(config.hard_dims, config.hard_losses)
    )
    online = run.once(
        "hard_online",
        lambda: lower_bounds.measure_online(config.seed, 5, dims=(16, 64), num_orders=20),
    )
    run.figure("lower_bounds", figures.lower_bounds(batch, lower_bounds.ETAS))
    return lower_bounds.claims(batch, online)


def _generality(config: Config, run: Run, own: Problems | None) -> list[Claim]:
    if own is not None and not own.separable:
        return _not_run(config, ("LS9", "LS10"))
    problems = own or random_problems(
        config.seed + 1,
        config.general_sets,
        num_samples=(80, 80),
        dims=(20,),
        margins=config.margins,
    )
    at = int(convergence.burn_in_steps(problems.margin, 2).max())
    networks = run.once(
        _phase("networks", own),
        lambda: generality.measure_networks(problems, config.network_width, config.network_steps),
    )
    run.figure("two_layer", figures.two_layer(networks, generality.SLOPES, generality.NETWORK_ETAS))
    if at > config.max_steps:
        losses = None
    else:
        eta = real_data.nearest(config.eta, 1e4)
        losses = run.once(_phase("losses", own), lambda: generality.measure_losses(problems, eta))
        run.figure("losses", figures.losses(losses, generality.LOSSES, generality.RULES))
    return generality.claims(losses, problems, networks)


def _real(config: Config, run: Run, own: Problems | None) -> list[Claim]:
    if own is not None and not own.separable:
        return _not_run(config, ("LS11", "LS12"))
    measured = {}
    for name in [Path(config.data).name] if own else config.real_sets:

        def measure(name=name):
            problem = own or real_problem(name)
            return real_data.measure(
                problem, config.eta, config.max_steps, config.seed, config.num_orders
            )

        try:
            measured[name] = run.once(_phase(f"real_{name.replace(' ', '_')}", own), measure)
        except ImportError as error:
            return [not_run(row, STATEMENTS[row], str(error)) for row in ("LS11", "LS12")]
    run.write_text("real_data.md", real_data.table(measured))
    run.figure("peers", figures.peers(measured, real_data.nearest(config.eta, 1e4)))
    return real_data.claims(measured, config.eta, config.max_steps)


_PARTS = {
    "convergence": _convergence,
    "lower_bounds": _lower_bounds,
    "generality": _generality,
    "real": _real,
}
