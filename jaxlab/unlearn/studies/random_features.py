"""N1, N3 and N7 on synthetic data: collapse, balance, and the way from NPO to gradient ascent."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlab.runs import Claim, Run, holds, not_run, progress, spread, study_key
from jaxlab.unlearn import figures
from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.random_features import draw_problem, fit, unlearning_path

_HALVED = "DPO halved+RT"
_JUDGED_BETA_STEPS = 2000  # fewer hardly leave the start
# The papers' method names with stepsize and beta for clouds apart (alpha = 1) and together (0).
METHODS = {
    "GA": (UnlearnConfig("ga"), {1.0: (5e-4, 1.0), 0.0: (1e-4, 1.0)}),
    "GA+RT": (UnlearnConfig("ga", "nll"), {1.0: (5e-4, 1.0), 0.0: (1e-4, 1.0)}),
    "IDK+RT": (UnlearnConfig("idk", "nll"), {1.0: (5e-4, 1.0), 0.0: (1e-4, 1.0)}),
    "NPO": (UnlearnConfig("npo"), {1.0: (5e-3, 1.0), 0.0: (5e-2, 10.0)}),
    "NPO+RT": (UnlearnConfig("npo", "nll"), {1.0: (5e-3, 1.0), 0.0: (5e-2, 10.0)}),
    "DPO+RT": (UnlearnConfig("dpo", "nll"), {1.0: (5e-3, 0.1), 0.0: (5e-2, 5.0)}),
    # With 1 / beta in front, as the paper writes the loss; its code has 2 / beta.
    _HALVED: (UnlearnConfig("dpo", "nll", 0.5), {1.0: (5e-3, 0.1), 0.0: (5e-2, 5.0)}),
}
BETAS = (0.01, 0.1, 0.2, 0.5, 1.0)
_BETA_STEPSIZE = 5e-4
_CLOSE = 0.05  # forget distance at which utility is compared


def measure(config, run: Run) -> list[Claim]:
    """Paths of six methods at both distances of the clouds, and of NPO over beta."""
    paths = {
        f"alpha_{alpha:g}": run.once(
            f"random_features_{alpha:g}", functools.partial(_paths, config, alpha)
        )
        for alpha in progress(config.alphas, "random features")
    }
    run.figure("random_features", figures.random_features(paths))
    sweep = run.once("beta_to_zero", lambda: _beta_paths(config))
    run.figure("beta_to_zero", figures.beta_to_zero(sweep, BETAS))
    claims = [_balance(config, paths), _vanishing_beta(config, sweep)]
    if "alpha_1" in paths:
        return [_collapse(config, paths["alpha_1"]), *claims]
    return [not_run("N1", _COLLAPSE, "needs the clouds apart: alphas with 1"), *claims]


_COLLAPSE = "Methods based on gradient ascent fail to unlearn or collapse catastrophically"


def _collapse(config, paths: dict) -> Claim:
    end = {name: path["retain"][:, -1] for name, path in paths.items()}
    forgotten = {name: path["forget"][:, -1].mean() for name, path in paths.items()}
    apart = end["GA"].mean() >= 1.0 and end["GA+RT"].mean() >= 0.2 and end["NPO+RT"].mean() <= 0.03
    return Claim(
        "N1",
        _COLLAPSE,
        "retain distance of GA far above NPO+RT's (Fig. 2)",
        ", ".join(f"{name} {spread(end[name]):.3f}" for name in ("GA", "GA+RT", "NPO+RT")),
        _judged(config, apart),
        unit="nats",
        detail=f"Retain distance after {config.feature_steps} steps, alpha = 1; {_setting(config)}."
        " Forget distance there: "
        + ", ".join(f"{name} {value:.3f}" for name, value in forgotten.items())
        + ". Criterion, of the means: GA >= 1, GA+RT >= 0.2, NPO+RT <= 0.03.",
    )


def _balance(config, paths: dict) -> Claim:
    best = {
        where: {
            name: (path["forget"] + path["retain"]).min(1).mean() for name, path in found.items()
        }
        for where, found in paths.items()
    }
    lowest = {
        where: min(found.keys() - {_HALVED}, key=found.__getitem__) for where, found in best.items()
    }
    lines = [
        f"{where.replace('_', ' = ')}: "
        + ", ".join(f"{name} {value:.3f}" for name, value in sorted(f.items(), key=lambda x: x[1]))
        for where, f in best.items()
    ]
    lowest_on = [
        f"{where.replace('_', ' = ')}: {_lowest_on(found)}" for where, found in paths.items()
    ]
    close = [
        f"{where.replace('_', ' = ')}: "
        + ", ".join(f"{name} {_retain_when_close(path)}" for name, path in found.items())
        for where, found in paths.items()
    ]
    return Claim(
        "N3",
        "NPO methods reach a better balance of unlearning and utility on synthetic data",
        "NPO+RT best (Fig. 2)",
        "; ".join(lines),
        _judged(config, set(lowest.values()) == {"NPO+RT"}) if len(paths) == 2 else "reported",
        unit="nats",
        detail=f"Smallest forget + retain distance along the path, mean over seeds; "
        f"{_setting(config)}. Retain distance once the forget distance is <= {_CLOSE}: "
        + "; ".join(close)
        + f". Seeds on which NPO+RT is lowest: {'; '.join(lowest_on)}. Halved DPO has 1 / beta in "
        "front, as the paper writes it, DPO 2 / beta, as its code. "
        "Criterion: NPO+RT lowest of all at both alphas, halved DPO aside.",
    )


def _lowest_on(found: dict) -> str:
    best = {name: (path["forget"] + path["retain"]).min(1) for name, path in found.items()}
    rivals = [values for name, values in best.items() if name != _HALVED]
    lowest = best["NPO+RT"] <= np.min(rivals, axis=0)
    return f"{lowest.sum()} of {lowest.size}"


def _vanishing_beta(config, sweep: dict) -> Claim:
    ascent, npo = sweep["ga"], sweep["npo"]
    deviation = {}
    for name in ("forget", "retain"):
        largest = np.abs(ascent[name]).max(1)
        # [betas, seeds]
        deviation[name] = np.abs(npo[name] - ascent[name]).max(2) / largest
    worst = np.maximum(deviation["forget"], deviation["retain"])
    grows = np.all([(np.diff(deviation[name].mean(1)) > 0).all() for name in deviation])
    said = [
        f"beta {beta:g}: {deviation['forget'][i].mean():.1%}, {deviation['retain'][i].mean():.1%}"
        for i, beta in enumerate(BETAS)
    ]
    return Claim(
        "N7",
        "NPO reduces to gradient ascent as beta goes to 0",
        "exact in the limit (Proposition 1)",
        "; ".join(said),
        _judged(config, worst[0].max() < 0.1 and grows)
        if config.beta_steps >= _JUDGED_BETA_STEPS
        else "reported",
        detail="Largest deviation of NPO's path from GA's (forget distance, retain distance; means "
        f"over {config.feature_seeds} seeds) over GA's largest value, {config.beta_steps} steps of "
        f"{_BETA_STEPSIZE:g}, alpha = 1. On the worst seed at beta = {BETAS[0]:g}: "
        f"{worst[0].max():.1%}. Criterion: below 10% there on every seed, growing with beta.",
    )


def _paths(config, alpha: float) -> dict:
    """Distances `[seeds, points]` of every method."""
    with jax.enable_x64(True):
        found = _over_keys(
            functools.partial(_one_problem, config, alpha),
            study_key(config, f"random features, alpha {alpha:g}"),
            config.feature_seeds,
        )
        return jax.device_get(found)


def _one_problem(config, alpha: float, key: jax.Array) -> dict:
    problem = draw_problem(key, alpha)
    initial, retrained = fit(problem, num_steps=config.fit_steps)
    found = {}
    for name, (form, settings) in METHODS.items():
        lr, beta = settings[alpha]
        path = unlearning_path(
            problem,
            initial,
            retrained,
            form,
            beta,
            lr=lr,
            num_steps=config.feature_steps,
            every=_every(config.feature_steps),
        )
        found[name] = path._asdict()
    return found


def _beta_paths(config) -> dict:
    """`ga` [seeds, points] and `npo` [betas, seeds, points]."""

    def one(key: jax.Array) -> dict:
        problem = draw_problem(key, 1.0)
        initial, retrained = fit(problem, num_steps=config.fit_steps)

        def path(method: str, beta: float) -> dict:
            return unlearning_path(
                problem,
                initial,
                retrained,
                UnlearnConfig(method),
                beta,
                lr=_BETA_STEPSIZE,
                num_steps=config.beta_steps,
                every=_every(config.beta_steps),
            )._asdict()

        npo = jax.lax.map(lambda beta: path("npo", beta), jax.numpy.array(BETAS))
        return {"ga": path("ga", 1.0), "npo": npo}

    with jax.enable_x64(True):
        key = study_key(config, "random features, beta to zero")
        found = jax.device_get(_over_keys(one, key, config.feature_seeds))
    found["npo"] = {name: path.swapaxes(0, 1) for name, path in found["npo"].items()}
    return found


def _every(steps: int) -> int:
    return max(steps // 80, 1)


def _retain_when_close(path: dict) -> str:
    values = [
        retain[np.argmax(forget <= _CLOSE)]
        for forget, retain in zip(path["forget"], path["retain"], strict=True)
        if (forget <= _CLOSE).any()
    ]
    return f"{np.mean(values):.3f}" if values else "never"


def _judged(config, condition) -> str:
    """The criteria were set for models that are trained to the end."""
    return holds(condition) if config.fit_steps >= 20_000 else "reported"


def _setting(config) -> str:
    return f"{config.fit_steps} steps to fit, {config.feature_seeds} seeds"


def _over_keys(function: Callable[[jax.Array], Any], key: jax.Array, count: int) -> Any:
    """Results of `function` for `count` keys, stacked `[count, ...]`.

    One after the other: the functions here are bound by arithmetic, where batching gains nothing.
    """
    return jax.jit(lambda keys: jax.lax.map(function, keys))(jax.random.split(key, count))
