"""The best linear self-attention, by minimising its exact risk from several starts."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from jaxlab.checks import check_at_least
from jaxlab.icl.gd_beta import lsa_from_effective, min_gd_beta_risk, optimal_gd_beta
from jaxlab.icl.linear_block import Effective, LSAParams
from jaxlab.icl.prior import TaskPrior
from jaxlab.icl.prompts import check_num_context
from jaxlab.icl.risk import effective_risk, lsa_gap_lower_bound


class LSAOptimum(NamedTuple):
    """The best LSA found.

    Attributes:
      params: its weights, in the prior's dtype.
      risk: its exact risk, float64 on the host.
      gap: `risk` minus the smallest risk of any LTB.
    """

    params: LSAParams
    risk: float
    gap: float


def optimal_lsa(
    prior: TaskPrior, num_context: int, *, num_starts: int = 4, key: jax.Array | None = None
) -> LSAOptimum:
    """Minimises the exact risk over all LSA by BFGS in float64, on the host.

    No closed form is known. The scale between value and query is free, so the label entry of the
    value is fixed at 1. Starts 1 to 3 have the value `(c beta*, 1)`, c = 0, -1, -0.7 (one
    start where beta* = 0), and the optimal preconditioner as query; further ones are random. The
    one-step gradient descent from zero, start 1, is in general not the optimum: label energy
    `y^T y / M` helps.

    Args:
      prior: the task distribution.
      num_context: M.
      num_starts: how many starts, at least 1.
      key: for the random starts beyond the third; `jax.random.key(0)` by default.

    Raises:
      ValueError: `num_context` or `num_starts` below 1.

    Warns:
      RuntimeWarning: BFGS did not converge from the best start; the value is still attained.
    """
    check_num_context(num_context)
    check_at_least("num_starts", num_starts, 1)
    dtype, key = prior.mean.dtype, jax.random.key(0) if key is None else key
    with jax.enable_x64(True):
        prior = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), prior)
        return _minimise(prior, num_context, num_starts, key, dtype)


def _minimise(prior: TaskPrior, num_context: int, num_starts: int, key: jax.Array, dtype):
    scale = _label_scale(prior)
    found = [
        scipy.optimize.minimize(
            lambda theta: jax.device_get(_objective(theta, scale, prior, num_context)),
            start,
            jac=True,
            method="BFGS",
            options={"gtol": 1e-9, "maxiter": 10_000},
        )
        for start in _starts(prior, scale, num_context, num_starts, key)
    ]
    best = min(found, key=lambda result: result.fun)
    slope = np.abs(best.jac).max()
    if not best.success and slope > 1e-6:
        warnings.warn(
            f"BFGS stopped before converging ({best.message}); the largest relative gradient entry "
            f"is {slope:.2g}. More num_starts may find a better LSA.",
            RuntimeWarning,
            stacklevel=3,
        )
    risk = float(best.fun * scale**2)
    floor = float(min_gd_beta_risk(prior, num_context))
    bound = float(lsa_gap_lower_bound(prior, num_context))
    assert risk >= floor + bound - 1e-9 * max(1.0, risk), "below the proved lower bound"
    _, value, query = _unpack(jnp.asarray(best.x), scale)
    params = jax.tree.map(lambda x: np.asarray(x, dtype), lsa_from_effective(value, query))
    return LSAOptimum(params, risk, risk - floor)


@jax.jit
def _objective(theta: jax.Array, scale: float, prior: TaskPrior, num_context: int):
    """Relative risk and its gradient; the number of examples is traced, so M costs no compile."""
    return jax.value_and_grad(
        lambda t: effective_risk(_unpack(t, scale), prior, num_context) / scale**2
    )(theta)


def _unpack(theta: jax.Array, scale: float) -> Effective:
    """Variables of order 1 whatever the size of the labels, which BFGS needs, to parameters."""
    dim = round((theta.size + 1) ** 0.5) - 1  # theta holds d + (d + 1) d numbers
    value = jnp.append(scale * theta[:dim], 1.0)
    query = theta[dim:].reshape(dim + 1, dim) / jnp.append(jnp.ones(dim), scale)[:, None]
    return Effective(jnp.zeros(dim), value, query)


def _starts(prior: TaskPrior, scale: float, num_context: int, num_starts: int, key: jax.Array):
    dim = prior.mean.shape[0]
    mean, Gamma = np.asarray(prior.mean), np.asarray(optimal_gd_beta(prior, num_context).Gamma)
    query = np.append(Gamma.T, np.zeros(dim))
    # A zero mean makes one point of the three.
    factors = (0.0, -1.0, -0.7) if mean.any() else (0.0,)
    informed = [np.append(c * mean / scale, query) for c in factors]
    noise = np.asarray(jax.random.normal(key, (max(num_starts - 3, 0), query.size + dim)))
    centre = np.append(-mean / scale, query)
    drawn = [centre + 0.3 * (1 + np.abs(centre)) * row for row in noise]
    return [*informed, *drawn][:num_starts]


def _label_scale(prior: TaskPrior) -> float:
    """Standard deviation of a label, all sources together; 1 where labels are constant zero."""
    H = prior.input_cov
    variance = prior.mean @ H @ prior.mean + jnp.trace(H @ prior.task_cov) + prior.noise_var
    return float(jnp.sqrt(variance)) or 1.0
