"""IL5: gradient flow reaches the optimal GD-beta although the risk is not convex."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.icl import figures
from jaxlab.icl.gd_beta import gd_beta_risk, min_gd_beta_risk
from jaxlab.icl.gradient_flow import gradient_flow
from jaxlab.icl.prior import make_prior
from jaxlab.runs import Claim, Run, holds, study_key

_KEPT = 400  # points of each curve that the figure needs


def measure(config, run: Run) -> list[Claim]:
    """Flows from zero and from random starts, over condition numbers of the inputs."""
    result = run.once("flow", lambda: _flows(config))
    run.figure("gradient_flow", figures.gradient_flow(result, config))
    curvature = run.once("curvature", lambda: _lowest_curvature(config))["eigenvalue"]
    excess, rise = result["excess"], result["largest_rise"].max()
    return [
        Claim(
            "IL5",
            "GD-beta can be optimized by gradient flow, although the objective is not convex",
            "",
            f"excess risk {excess.max():.1e} at the end, smallest Hessian eigenvalue "
            f"{curvature:.1f}",
            holds(excess.max() < 1e-6 and rise <= 1e-12 and curvature < 0),
            detail=f"Zero and {config.flow_starts} random starts, condition numbers of H "
            f"{', '.join(f'{c:g}' for c in config.flow_conditions)}. Criterion: excess < 1e-6 from "
            f"every start, risk never rising (largest rise {rise:.0e}), and a direction of "
            "negative curvature.",
        )
    ]


def _flows(config) -> dict:
    """Curves thinned to `_KEPT` points: `[conditions, starts, points]`."""
    dim, M = config.dim, config.num_context
    key = study_key(config, 6)
    beta_key, gamma_key = jax.random.split(key)
    with jax.enable_x64(True):
        zeros = jnp.zeros((1, dim)), jnp.zeros((1, dim, dim))
        count = config.flow_starts
        betas = jnp.concatenate([zeros[0], 2 * jax.random.normal(beta_key, (count, dim))])
        Gammas = jnp.concatenate([zeros[1], jax.random.normal(gamma_key, (count, dim, dim))])
        priors = [
            make_prior(
                np.ones(dim),
                input_cov=np.diag(np.geomspace(1, 1 / condition, dim)),
                noise_var=config.noise_var,
            )
            for condition in config.flow_conditions
        ]
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *priors)
        integrate = functools.partial(gradient_flow, num_context=M, num_steps=config.flow_steps)
        over_starts = jax.vmap(lambda b, G, p: integrate(b, G, p), in_axes=(0, 0, None))
        paths = jax.jit(jax.vmap(over_starts, in_axes=(None, None, 0)))(betas, Gammas, stacked)
        floor = jax.vmap(lambda p: min_gd_beta_risk(p, M))(stacked)[:, None]
        thin = np.unique(np.geomspace(1, config.flow_steps, _KEPT).astype(int))
        return {
            "time": paths.time[..., thin],
            "excess_curve": paths.risk[..., thin] - floor[..., None],
            "beta_error": paths.beta_error[..., thin],
            "Gamma_error": paths.Gamma_error[..., thin],
            "excess": paths.risk[..., -1] - floor,
            "largest_rise": jnp.diff(paths.risk).max(-1),
        }


def _lowest_curvature(config) -> dict:
    """The smallest Hessian eigenvalue of the risk at 200 random points, d = 2, M = 5."""
    rng = np.random.default_rng(config.seed)
    with jax.enable_x64(True):
        prior = make_prior([1.0, 1.0], noise_var=config.noise_var)

        def risk(theta):
            return gd_beta_risk(theta[:2], theta[2:].reshape(2, 2), prior, 5)

        hessians = jax.jit(jax.vmap(jax.hessian(risk)))(3 * rng.normal(size=(200, 6)))
        return {"eigenvalue": jnp.linalg.eigvalsh(hessians).min()}
