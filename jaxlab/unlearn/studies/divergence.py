"""N2: how fast gradient ascent and NPO leave the model that they started from."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.runs import Claim, Run, holds, spread, study_key
from jaxlab.unlearn import figures
from jaxlab.unlearn.divergence import divergence_curve

BETAS = (0.1, 0.5, 1.0)
POINTS, DIMENSION, STEPSIZE = 20, 400, 1.0
_FIT_FROM = 0.05  # the theorem's rates are fitted beyond this share of the steps


def measure(config, run: Run) -> list[Claim]:
    """Distances over steps on nearly orthogonal points, and the rates that Theorem 2 names."""
    result = run.once("divergence", lambda: _curves(config))
    run.figure("divergence", figures.divergence(result, BETAS))
    ascent = np.array([_linear_rates(curve) for curve in result["ga"]])
    rates = [
        [_log_rates(curve, beta) for curve in result["npo"][i]] for i, beta in enumerate(BETAS)
    ]
    slopes, fits = np.moveaxis(np.array(rates), -1, 0)
    gaps = result["ga"][:, -1] / result["npo"][:, :, -1]
    return [
        Claim(
            "N2",
            "NPO's progression toward catastrophic collapse is exponentially slower than that of "
            "gradient ascent",
            "linear against logarithmic (Theorem 2)",
            f"GA: exponent {spread(ascent[:, 0]):.3f}, slope {spread(ascent[:, 1]):.2f} of "
            f"eta / sqrt(n); NPO: slope {slopes.min():.2f} to {slopes.max():.2f} of "
            f"sqrt(n) / beta per e-fold, R2 >= {fits.min():.4f}",
            holds(
                np.all(np.abs(ascent[:, 0] - 1) <= 0.1)
                and np.all((ascent[:, 1] >= 0.8) & (ascent[:, 1] <= 1.2))
                and np.all((slopes >= 0.9) & (slopes <= 1.2))
                and fits.min() > 0.99
            ),
            detail=f"n = {POINTS}, d = {DIMENSION}, {config.divergence_steps} steps, "
            f"{config.divergence_seeds} seeds, beta = 0.1, 0.5, 1. At the end GA is "
            + ", ".join(f"{gap.mean():.0f}" for gap in gaps)
            + " times as far away as NPO. Criterion: exponent 1 +- 0.1, slopes 0.8 to 1.2 and 0.9 "
            "to 1.2, R2 > 0.99, on every seed.",
        )
    ]


def _curves(config) -> dict:
    """`ga` [seeds, T + 1] and `npo` [betas, seeds, T + 1]."""

    def one(key, loss, beta):
        x_key, y_key, theta_key = jax.random.split(key, 3)
        x = jax.random.normal(x_key, (POINTS, DIMENSION)) / DIMENSION**0.5
        y = jax.random.bernoulli(y_key, shape=(POINTS,)).astype(float)
        theta = jax.random.normal(theta_key, (DIMENSION,)) / DIMENSION**0.5
        steps = config.divergence_steps
        return divergence_curve(x, y, theta, loss=loss, lr=STEPSIZE, num_steps=steps, beta=beta)

    keys = jax.random.split(study_key(config, "divergence"), config.divergence_seeds)
    npo = jax.vmap(jax.vmap(lambda key, beta: one(key, "npo", beta), (0, None)), (None, 0))
    return {
        "ga": jax.vmap(lambda key: one(key, "ga", 1.0))(keys),
        "npo": npo(keys, jnp.array(BETAS)),
    }


def _tail(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    steps = np.arange(len(curve))
    chosen = steps >= max(_FIT_FROM * steps[-1], 1)
    return steps[chosen], curve[chosen].astype(np.float64)


def _linear_rates(curve: np.ndarray) -> tuple[float, float]:
    """Exponent of t, and slope per step in units of eta / sqrt(n)."""
    steps, distance = _tail(curve)
    exponent = np.polyfit(np.log(steps), np.log(distance), 1)[0]
    return exponent, np.polyfit(steps, distance, 1)[0] * POINTS**0.5 / STEPSIZE


def _log_rates(curve: np.ndarray, beta: float) -> tuple[float, float]:
    """Slope per e-fold of t in units of sqrt(n) / beta, and R2 of the fit."""
    steps, distance = _tail(curve)
    slope, offset = np.polyfit(np.log(steps), distance, 1)
    residual = distance - slope * np.log(steps) - offset
    return slope * beta / POINTS**0.5, 1 - residual.var() / distance.var()
