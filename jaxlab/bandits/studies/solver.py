"""C8 and C9: the inner problem is solved exactly, and its width among many arms has a formula."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.studies.methods import batch_size
from jaxlab.bandits.suprema import sample_suprema
from jaxlab.bandits.trust_region import radius_grid, trust_region_support
from jaxlab.bandits.width import asymptotic_width
from jaxlab.runs import Claim, Run, holds, progress, study_key

_DECADES = (0.0, 2.0, 8.0)  # spread of the variances
_RATIOS = (0.1, 1.0, 9.0, 99.0)  # t = K eps^2 / se2
_BISECTIONS = 200


def measure(config, run: Run) -> list[Claim]:
    """Errors of the closed form in single precision, and widths against their limit."""
    solved = run.once("solver", lambda: _errors(config))
    width = run.once("width", lambda: _widths(config))
    run.figure("width", figures.width(width, config.width_arms))
    off = np.abs(width["mean"] / width["formula"] - 1)
    return [
        Claim(
            "C8",
            "The inner problem is solved exactly",
            "",
            f"largest relative error {solved['error'].max():.1e} in single precision",
            holds(solved["error"].max() <= 1e-5),
            detail=f"Against bisection in double precision, K = "
            f"{', '.join(map(str, config.solver_arms))}, variances over 0, 2 and 8 decades, "
            "offsets 0 and 300, 20 radii. Criterion: <= 1e-5. The speed against a conic solver is "
            "measured by benchmarks/trust_bandits.py, which needs one.",
        ),
        Claim(
            "C9",
            "Among many equal arms the width of a trust region has a closed form",
            "",
            f"within {100 * off.max():.2f}% at t = {', '.join(f'{t:g}' for t in _RATIOS)}",
            holds(off.max() <= 0.02),
            detail=f"Mean of {config.width_samples} suprema, K = {config.width_arms}. "
            "Criterion: <= 2%.",
        ),
    ]


def _errors(config) -> dict:
    """Largest relative error over radii, `[arms, decades, offsets]`."""
    rng = np.random.default_rng(config.seed)
    errors = [
        [
            [
                _error(rng, num_arms, decades, offset, max(config.solver_arms))
                for offset in (0.0, 300.0)
            ]
            for decades in _DECADES
        ]
        for num_arms in progress(config.solver_arms, "solver")
    ]
    return {"error": np.array(errors)}


def _error(
    rng: np.random.Generator, num_arms: int, decades: float, offset: float, length: int
) -> float:
    """Largest relative error over 20 radii, the problem padded to `length` arms."""
    values = (rng.normal(size=num_arms) + offset).astype(np.float32)
    se2 = (10 ** rng.uniform(-decades / 2, decades / 2, num_arms)).astype(np.float32)
    padding = 0, length - num_arms
    padded = np.pad(se2, padding, constant_values=np.inf)
    radii, got = jax.device_get(_improvements(np.pad(values, padding), padded))
    exact = values.astype(np.float64), se2.astype(np.float64)
    want = np.array([bisect(*exact, radius) for radius in radii])
    return float(np.max(np.abs(got - want) / want))


@jax.jit
def _improvements(values: jax.Array, se2: jax.Array) -> tuple[jax.Array, jax.Array]:
    radii = radius_grid(se2)
    return radii, trust_region_support(values, se2, radii)


def bisect(values: np.ndarray, se2: np.ndarray, radius: float) -> float:
    """The maximum by bisection on the threshold `nu` of `w ~ (values - nu)_+ / se2`."""
    precision = 1 / se2
    reference = precision / precision.sum()
    centred = values - reference @ values
    budget = 1 / precision.sum() + np.square(radius)
    top = centred.max()

    def policy(nu):
        weight = np.maximum(centred - nu, 0) * precision
        return weight / weight.sum()

    scale = np.ptp(centred)
    low, high = top - 1e9 * scale, top - 1e-13 * scale
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        within = np.sum(np.square(policy(middle)) * se2) < budget
        low, high = (middle, high) if within else (low, middle)
    return float(policy(low) @ centred)


def _widths(config) -> dict:
    """Mean suprema `[ratios]` of unit noise, and the formula."""
    num_arms = config.width_arms
    radii = jnp.sqrt(jnp.array(_RATIOS) / num_arms)
    suprema = jax.jit(
        lambda key: sample_suprema(
            key,
            jnp.ones(num_arms),
            radii,
            config.width_samples,
            batch_size(num_arms, config.width_samples),
        )
    )(study_key(config, 7))
    return {
        "ratio": np.array(_RATIOS),
        "mean": suprema.mean(0),
        "error": suprema.std(0) / np.sqrt(config.width_samples),
        "formula": jax.jit(asymptotic_width)(jnp.array(_RATIOS)),
    }
