"""LS5 to LS7: the hard data sets, on which no first-order method is fast."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.optim.hard_instances import HardDataset, hard_dataset_batch, hard_dataset_online
from jaxlab.optim.perceptron import perceptron
from jaxlab.optim.problems import Problems, eta_label, sweep
from jaxlab.optim.statements import STATEMENTS
from jaxlab.optim.stepsize import RULES
from jaxlab.runs import Claim, holds, not_run, spread

ETAS = (1.0, 100.0, 1e4, 1e6)
RHOS = (0.5, 0.25)
# The runs whose first separator meets the lower bound exactly, at every eta >= 1e4.
OPTIMAL = (("exponential", "risk"), ("logistic", "potential"))


def measure_batch(dims: Sequence[int], losses: Sequence[str]) -> dict:
    """First separators on `hard_dataset_batch` of every loss and rule, [rho * dim, eta]."""
    hard = [hard_dataset_batch(dim, rho) for rho, dim in itertools.product(RHOS, dims)]
    problems = _pad(hard)
    first = {
        f"{loss} {rule}": sweep(
            problems, ETAS, num_steps=2 * max(dims), loss=loss, rule=rule
        ).first_separated
        for loss, rule in itertools.product(losses, RULES)
    }
    return {
        "first_separated": first,
        "min_steps": np.array([data.min_steps for data in hard]),
        "upper": np.array([(data.radius / data.margin) ** 2 for data in hard]),
    }


def measure_online(seed: int, exhaustive_dim: int, dims: Sequence[int], num_orders: int) -> dict:
    """Updates of the Perceptron on orthonormal rows: every order of few, some orders of many."""
    rng = np.random.default_rng(seed)
    orders = {exhaustive_dim: np.array(list(itertools.permutations(range(exhaustive_dim))))}
    for dim in dims:
        orders[dim] = np.array([rng.permutation(dim) for _ in range(num_orders)])
    return {str(dim): _updates(hard_dataset_online(dim), order) for dim, order in orders.items()}


def _updates(hard: HardDataset, orders: np.ndarray) -> jax.Array:
    X, y = jnp.array(hard.X), jnp.array(hard.y)
    return jax.vmap(lambda order: perceptron(X[order], y[order]).num_updates)(orders)


def _pad(hard: Sequence[HardDataset]) -> Problems:
    """One batch of chains of different length; a padding row has weight 0 and repeats the first."""
    size = max(len(data.y) for data in hard)

    def pad(data: HardDataset, values, fill):
        rows = np.full((size, *np.shape(fill)), fill)
        rows[: len(data.y)] = values
        return rows

    def pad_rows(data: HardDataset):
        wide = np.pad(data.X, ((0, 0), (0, size - len(data.y))))
        return pad(data, wide, wide[0])

    return Problems(
        X=np.stack([pad_rows(data) for data in hard]),
        y=np.stack([pad(data, data.y, data.y[0]) for data in hard]),
        weight=np.stack([pad(data, data.sample_weight, 0.0) for data in hard]),
        margin=np.array([data.margin for data in hard]),
        size=np.array([len(data.y) for data in hard]),
    )


def claims(batch: dict, online: dict) -> list[Claim]:
    """The rows LS5 to LS7."""
    return [_batch_row(batch), _online_row(online), _minimax_row(batch)]


def _batch_row(batch: dict) -> Claim:
    min_steps = batch["min_steps"][:, None]
    first = np.stack(list(batch["first_separated"].values()))  # [runs, data, eta]
    early = (first >= 0) & (first < min_steps)
    found = first >= 0
    ratio = np.where(found, first / min_steps, np.inf)
    return Claim(
        "LS5",
        STATEMENTS["LS5"],
        "Omega(1/gamma^2)",
        f"{early.sum()} of {first.size} runs before step d; earliest at {ratio.min():.3f} d",
        holds(not early.any()),
        detail=f"A chain of d = kappa R^2/gamma^2 samples, d in "
        f"{sorted({int(d) for d in batch['min_steps']})}, rho in {list(RHOS)}, all rules, losses "
        f"{', '.join(sorted({name.split()[0] for name in batch['first_separated']}))}, "
        f"eta in {', '.join(map(eta_label, ETAS))}. The proof covers every method whose iterates "
        "stay in the span of gradients. Criterion: none before step d.",
    )


def _online_row(online: dict) -> Claim:
    exact = all((updates == int(dim)).all() for dim, updates in online.items())
    ratio = np.concatenate([updates / int(dim) for dim, updates in online.items()])
    orders = ", ".join(f"{len(updates)} orders of {dim}" for dim, updates in online.items())
    return Claim(
        "LS6",
        STATEMENTS["LS6"],
        "Omega(1/gamma^2)",
        f"{spread(ratio):.4f}",
        holds(exact),
        unit="1/gamma^2 updates",
        detail=f"Perceptron on orthonormal rows, d = 1/gamma^2: {orders}. Criterion: exactly d.",
    )


def _minimax_row(batch: dict) -> Claim:
    missing = [f"{loss} {rule}" for loss, rule in OPTIMAL]
    missing = [name for name in missing if name not in batch["first_separated"]]
    if missing:
        return not_run("LS7", STATEMENTS["LS7"], f"Needs {' and '.join(missing)} (--hard_losses).")
    large = np.asarray(ETAS) >= 1e4
    first = np.stack(
        [batch["first_separated"][f"{loss} {rule}"][:, large] for loss, rule in OPTIMAL]
    )
    ratio = np.where(first >= 0, first / batch["min_steps"][:, None], np.inf)
    inverse_kappa = (batch["upper"] / batch["min_steps"])[:, None]
    return Claim(
        "LS7",
        STATEMENTS["LS7"],
        "constant",
        f"{ratio.min():.3f} to {ratio.max():.3f}",
        holds((ratio <= inverse_kappa).all()),
        unit="d (the lower bound)",
        detail="First separator of GD at eta >= 1e4 (exponential loss; logistic with the rule "
        f"potential) over the lower bound d. Criterion: at most 1/kappa, "
        f"{inverse_kappa.min():.2f} to {inverse_kappa.max():.2f} on these data.",
    )
